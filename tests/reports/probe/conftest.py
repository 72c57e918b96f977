"""The same runs as the feature pictures'."""

from tests.reports.features.conftest import (  # noqa: F401 - fixtures
    baseline_run,
    finished_run,
    scenes_folder,
    small_overrides,
)
