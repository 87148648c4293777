// The order of the pictures: as they are named, or by L1. Without targets there is nothing to choose.
(function gallery() {
  const choice = document.getElementById("order"), list = document.getElementById("pictures");
  if (!choice) return;
  const cards = [...list.children];
  const l1 = (card) => Number(card.dataset.l1);
  const orders = { name: () => 0, worst: (a, b) => l1(b) - l1(a), best: (a, b) => l1(a) - l1(b) };
  choice.addEventListener("change", () => list.append(...[...cards].sort(orders[choice.value])));
})();
