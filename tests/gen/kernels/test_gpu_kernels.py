"""The GPU kernels against the layers' references: on a GPU, or anywhere in Triton's interpreter."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from steadypix import BlurPool2d, PatchDiscriminator, UNetGenerator
from steadypix.gen.kernels import gpu_kernels
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


def test_kernels_equal_the_references() -> None:
    """In a process of its own: whether kernels are interpreted is settled when they are first imported."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("no Triton here")
    interpreted = {} if torch.cuda.is_available() else {"TRITON_INTERPRET": "1"}
    environment = {**os.environ, **interpreted, "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/gen/kernels/gpu_kernel_cases.py",
    ]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "passed" in done.stdout


BLUR = {"V": 5, "H": 3, "BLOCK_J": 8, "BLOCK_C": 64}
NORM = {"STEPS": 16, "BLOCK_S": 32, "BLOCK_C": 32}
ALONE = {**NORM, "PARTS": 0, "partial": None}


@pytest.mark.parametrize(
    ("kernel", "constants"),
    [
        ("blur_kernel", BLUR),
        ("sums_kernel", NORM),
        ("grad_sums_kernel", NORM),
        ("norm_kernel", ALONE),
        ("norm_kernel", {**NORM, "PARTS": 128}),
        ("grad_kernel", ALONE),
        ("grad_kernel", {**NORM, "PARTS": 128}),
    ],
)
def test_kernels_compile_for_gpus(kernel: str, constants: dict[str, Any]) -> None:
    """To machine code, which takes no GPU; the interpreter takes what the compiler may not."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("no Triton here")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from steadypix.gen.kernels import triton_kernels

    function = getattr(triton_kernels, kernel)
    types = dict.fromkeys(("x", "y", "grad", "grad_x"), "*bf16")
    types |= dict.fromkeys(("row_weights", "column_weights", "statistics", "partial"), "*fp32")
    types |= {"rows": "*i32", "columns": "*i32", "slope": "fp32", "eps": "fp32"}
    signature = {
        name: "constexpr" if name in constants else types.get(name, "i32") for name in function.arg_names
    }
    constants = {(function.arg_names.index(name),): value for name, value in constants.items()}
    source = ASTSource(function, signature=signature, constexprs=constants)
    for capability in (80, 90):
        built = compile(source, target=GPUTarget("cuda", capability, 32))
        assert len(built.asm["cubin"]) > 1000


@pytest.fixture
def asked_anew() -> Iterator[None]:
    gpu_kernels.available.cache_clear()
    yield
    gpu_kernels.available.cache_clear()


@pytest.mark.usefixtures("asked_anew")
def test_without_a_working_compiler_the_references_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("triton") is None:
        pytest.skip("no Triton here")

    def fail(*_: object) -> Tensor:
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC")

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(gpu_kernels, "blur", fail)
    monkeypatch.setattr(torch, "ones", lambda *size, device: torch.empty(size))
    device = torch.device("cuda", 3)
    with pytest.warns(UserWarning, match=r"slower: Failed to find C compiler\. Please specify via CC"):
        assert not gpu_kernels.available(device)
    assert not gpu_kernels.available(device)  # said once


@needs_gpu
@pytest.mark.parametrize("sampling", ["strided", "preblur", "blur", "blur_late"])
@pytest.mark.parametrize("padding", ["zeros", "reflect", "circular"])
def test_networks_are_the_same_with_and_without(
    sampling: str, padding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outputs and gradients of both networks; but for biases in front of a norm, whose gradient is noise."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    torch.manual_seed(0)
    generator = UNetGenerator(ngf=8, num_downs=5, sampling=sampling, padding=padding).cuda().eval()
    discriminator = PatchDiscriminator(ndf=8, n_layers=2, filter="tri3", input_filter="bin5").cuda()
    x = torch.randn(2, 3, 64, 96, device="cuda").contiguous(memory_format=torch.channels_last)
    found: list[tuple[Tensor, list[Tensor]]] = []
    for switched_on in (True, False):
        if not switched_on:
            monkeypatch.setattr(gpu_kernels, "available", lambda device: False)
        for network in (generator, discriminator):
            network.zero_grad()
        y = generator(x)
        loss = F.softplus(-discriminator(torch.cat([x, y], dim=1))).mean() + y.square().mean()
        loss.backward()
        weights = [p for network in (generator, discriminator) for p in network.parameters() if p.ndim > 1]
        found.append((y.detach(), [p.grad.clone() for p in weights if p.grad is not None]))
    (one, grads), (other, wanted) = found
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    for a, b in zip(grads, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * b.abs().max().item())


@needs_gpu
def test_a_map_of_one_pixel_is_refused_as_by_torch() -> None:
    generator = UNetGenerator(ngf=8, num_downs=3).cuda()
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        generator(torch.zeros(1, 3, 4, 4, device="cuda"))


@needs_gpu
def test_double_precision_takes_the_reference() -> None:
    layer = BlurPool2d(3).cuda().double()
    x = torch.randn(1, 3, 8, 8, device="cuda", dtype=torch.float64)
    torch.testing.assert_close(layer(x), layer.reference(x), rtol=0, atol=0)
