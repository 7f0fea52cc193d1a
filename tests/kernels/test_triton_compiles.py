"""Kernels in Triton are compiled for GPUs that are not here: the interpreter forgives more."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")

GPUS = {"hopper": ("cuda", 90, 32), "mi300": ("hip", "gfx942", 64)}
TYPES = ["fp32", "bf16", "fp64"]
POINTERS = {
    **dict.fromkeys(("table", "counts"), "*i32"),
    **dict.fromkeys(("partial", "settings", "numbers"), "*fp64"),
    **dict.fromkeys(("whole", "tops"), "*i64"),
    **dict.fromkeys(("peaks", "log_sums", "p_peaks", "p_log_sums", "kl"), "*fp32"),
    **dict.fromkeys(("q_peaks", "q_log_sums"), "*fp32"),
}
READ = ("values", "logits", "p_logits", "q_logits")


@pytest.mark.parametrize(
    ("gpu", "dtype"), [("hopper", each) for each in TYPES] + [("mi300", "bf16")]
)
def test_every_kernel(gpu: str, dtype: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    command = [sys.executable, "-W", "ignore", "-m", __name__, gpu, dtype]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names = {"_sum", "_count", "_count_bytes", "_count_massive"}
    if dtype != "fp64":  # such logits are computed with in fp32
        names |= {"_predict", "_diverge"}
    assert set(done.stdout.split()) == names


def compile_all(gpu: str, dtype: str) -> None:
    """Compiles each kernel, for many values to a row and, as is done apart, for one."""
    import triton.language as tl
    from triton import compile as compiled
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from harness.kernels import triton_logits, triton_massive, triton_moments

    size = {"fp32": 4, "fp64": 8}.get(dtype, 2)
    bits = {2: tl.int16, 4: tl.int32, 8: tl.int64}[size]
    lanes: dict[str, Any] = {"LANES": triton_moments.LANES}
    computed = {**lanes, "TYPE": tl.float64 if size == 8 else tl.float32}
    read = {**lanes, "SIZE": size, "BITS": bits}
    jobs = [
        (triton_moments._sum, computed),
        (triton_moments._count, computed),
        (triton_massive._count_bytes, {**read, "LEVEL": 0}),
        (triton_massive._count_bytes, {**read, "LEVEL": size - 1}),
        (triton_massive._count_massive, {**read, **computed}),
    ]
    if size < 8:
        scoring = {"LANES": triton_logits.LANES}
        jobs += [(triton_logits._predict, scoring), (triton_logits._diverge, scoring)]
    pointers = POINTERS | dict.fromkeys(READ, f"*{dtype}")
    for kernel, constants in jobs:
        narrow = [name for name in ("width", "columns") if name in kernel.arg_names]
        for known in (constants, {**constants, **dict.fromkeys(narrow, 1)}):
            signature = {
                name: "constexpr" if name in known else pointers.get(name, "i32")
                for name in kernel.arg_names
            }
            source = ASTSource(fn=kernel, signature=signature, constexprs=known)
            options = {"num_warps": 4, "enable_fp_fusion": True}
            compiled(source, target=GPUTarget(*GPUS[gpu]), options=options)
        print(kernel.__name__)


if __name__ == "__main__":
    compile_all(*sys.argv[1:])
