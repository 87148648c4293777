"""What GPU kernels must equal: run by `test_gpu_kernels.py`, on a GPU or in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from steadypix import BlurPool2d, BlurUpsample2d
from steadypix.gen.kernels import gpu_kernels
from steadypix.gen.kernels.axis_map import blur_map, upsample_map

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LAYOUTS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}
SHAPES = [(2, 3, 4, 5), (1, 136, 2, 3), (1, 5, 1, 1)]
NORM_SHAPES = [(2, 3, 4, 5), (1, 36, 2, 3)]  # more channels than a program takes, in one layout one a program
if DEVICE == "cuda":  # larger than one program takes; the interpreter is slow
    LARGER = [(1, 6, 9, 7), (1, 64, 8, 8), (2, 24, 70, 81), (1, 64, 128, 128), (1, 3, 256, 256)]
    SHAPES += LARGER
    NORM_SHAPES += [(1, 136, 2, 3), *LARGER]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
layouts = pytest.mark.parametrize("layout", LAYOUTS)


@pytest.fixture(autouse=True)
def full_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def draw(shape: tuple[int, ...], layout: str = "nchw", dtype: torch.dtype = torch.float32) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return x.to(DEVICE, dtype).contiguous(memory_format=LAYOUTS[layout])


@shapes
@layouts
@pytest.mark.parametrize(
    ("filter", "stride", "padding"),
    [
        ("bin5", 2, "reflect"),
        ("bin5", 1, "reflect"),
        ("rect2", 2, "reflect"),
        ("bin4", 1, "circular"),
        ("bin5", 2, "zeros"),
    ],
)
def test_blur_pool(shape: tuple[int, ...], layout: str, filter: str, stride: int, padding: str) -> None:
    layer = BlurPool2d(shape[1], filter=filter, stride=stride, padding=padding).to(DEVICE)
    maps = [blur_map(n, filter, stride, padding, False) for n in shape[2:]]
    x = draw(shape, layout).requires_grad_()
    expected = layer.reference(x)
    got = gpu_kernels.blur(x.detach(), *maps)
    torch.testing.assert_close(got, expected.detach(), rtol=1e-5, atol=1e-5)
    assert got.is_contiguous(memory_format=LAYOUTS[layout])

    grad = torch.randn_like(expected)
    expected.backward(grad)
    back = gpu_kernels.blur(grad, *(m.transpose() for m in maps))
    torch.testing.assert_close(back, x.grad, rtol=1e-5, atol=1e-5)


@shapes
@layouts
@pytest.mark.parametrize("filter", ["bin4", "bin5"])
def test_blur_upsample(shape: tuple[int, ...], layout: str, filter: str) -> None:
    layer = BlurUpsample2d(shape[1], filter=filter).to(DEVICE)
    x = draw(shape, layout)
    got = gpu_kernels.blur(x, *(upsample_map(n, filter, "reflect", 2.0) for n in shape[2:]))
    torch.testing.assert_close(got, layer.reference(x), rtol=1e-5, atol=1e-5)


def test_blur_of_a_map_that_is_not_dense() -> None:
    x = draw((2, 7, 12, 11))[:, 1:6, ::2, 2:].transpose(2, 3)
    maps = [blur_map(n, "bin5", 2, "reflect", False) for n in x.shape[2:]]
    layer = BlurPool2d(5).to(DEVICE)
    torch.testing.assert_close(gpu_kernels.blur(x, *maps), layer.reference(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "chunk", "tile", "programs"),
    [
        *((shape, gpu_kernels.NORM_CHUNK, gpu_kernels.NORM_TILE, None) for shape in NORM_SHAPES),
        ((2, 3, 17, 19), 128, 64, {"nchw": 3, "nhwc": 11}),
    ],
    ids=str,
)
@layouts
@pytest.mark.parametrize("slope", [0.2, 1.0])
def test_instance_norm(
    shape: tuple[int, ...],
    chunk: int,
    tile: int,
    programs: dict[str, int] | None,
    layout: str,
    slope: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A map in one program and in several; its mean is far from 0."""
    monkeypatch.setattr(gpu_kernels, "NORM_CHUNK", chunk)
    monkeypatch.setattr(gpu_kernels, "NORM_TILE", tile)
    x = (3 * draw(shape, layout) + 50).requires_grad_()
    if programs:
        assert gpu_kernels._plan(x)[1][0] == programs[layout]
    bias = torch.randn(shape[1], device=DEVICE, requires_grad=True)
    expected = F.leaky_relu(F.instance_norm(x), slope)
    grad = torch.randn_like(expected)
    expected.backward(grad)
    wanted, x.grad = x.grad, None
    got = gpu_kernels.InstanceNormAct.apply(x, bias, slope, 1e-5)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=5e-5)
    got.backward(grad)
    torch.testing.assert_close(x.grad, wanted, rtol=1e-4, atol=5e-5)
    assert bias.grad is not None
    assert not bias.grad.any()


def test_no_map_is_shared_by_more_programs_than_each_can_add_up() -> None:
    for shape in ((1, 64, 1024, 1024), (1, 3, 4224, 4224), (1, 64, 97, 4001)):
        for memory_format in LAYOUTS.values():
            x = torch.empty(shape, device="meta", memory_format=memory_format)
            _, (parts, _, _), (_, _, pixels, chunk, *_), blocks = gpu_kernels._plan(x)
            assert parts <= gpu_kernels.MOST_PARTS
            assert parts * chunk >= pixels
            assert blocks["STEPS"] * blocks["BLOCK_S"] >= chunk


def test_a_norm_is_differentiated_twice_and_for_many_gradients_at_once() -> None:
    x = draw((1, 2, 3, 3)).requires_grad_()

    def fused(x: Tensor) -> Tensor:
        return gpu_kernels.InstanceNormAct.apply(x, None, 0.2, 1e-5)

    def plain(x: Tensor) -> Tensor:
        return F.leaky_relu(F.instance_norm(x), 0.2)

    seconds, jacobians = [], []
    for function in (fused, plain):
        (first,) = torch.autograd.grad(function(x).square().mean(), x, create_graph=True)
        seconds.append(torch.autograd.grad(first.square().sum(), x)[0])
        y = function(x)
        many = torch.eye(y.numel(), device=DEVICE).view(-1, *y.shape)
        jacobians.append(torch.autograd.grad(y, x, many, is_grads_batched=True)[0])
    torch.testing.assert_close(*seconds, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(*jacobians, rtol=1e-3, atol=1e-4)


def test_negated_views() -> None:
    x = torch.complex(draw((1, 2, 4, 4)), draw((1, 2, 4, 4))).conj().imag
    assert x.is_neg()
    maps = [blur_map(4, "bin5", 2, "reflect", False)] * 2
    torch.testing.assert_close(gpu_kernels.blur(x, *maps), gpu_kernels.blur(x.clone(), *maps))
    one, other = (gpu_kernels.normalise(each, 0.2, 1e-5)[0] for each in (x, x.clone()))
    torch.testing.assert_close(one, other)


@layouts
def test_half_precision_is_rounded_once(layout: str) -> None:
    """The interpreter cuts off where a GPU rounds."""
    tolerance = 0.0 if DEVICE == "cuda" else 2**-7
    x = draw((1, 16, 10, 10), layout)
    maps = [blur_map(10, "bin5", 2, "reflect", False)] * 2
    low = x.to(torch.bfloat16)
    exact = gpu_kernels.blur(low.float(), *maps)
    got = gpu_kernels.blur(low, *maps).float()
    torch.testing.assert_close(got, exact.to(torch.bfloat16).float(), rtol=tolerance, atol=tolerance)
    y, _ = gpu_kernels.normalise(low, 0.2, 1e-5)
    exact, _ = gpu_kernels.normalise(low.float(), 0.2, 1e-5)
    torch.testing.assert_close(y.float(), exact.to(torch.bfloat16).float(), rtol=tolerance, atol=tolerance)
