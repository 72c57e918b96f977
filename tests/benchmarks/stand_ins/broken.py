"""A benchmark that fails on its way."""

from collections.abc import Callable

from exfuse.benchmarks.report import Measurement


def measure(device: str, progress: Callable[[str], None]) -> list[Measurement]:
    progress("about to fail")
    raise RuntimeError(f"there is no {device} today")
