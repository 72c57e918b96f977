"""What a page cannot show, and why: said at its head instead of being left to be missed."""

from collections import Counter

from exfuse.reports.page.data import PageData

_REASONS = {
    "missing": "no seed has finished in both rows of a comparison",
    "other images": "rows were scored on different images",
}


def notices(data: PageData, sections: set[str]) -> list[str]:
    """Sentences on unfinished runs, single seeds and missing parts.

    Args:
        data: of the page.
        sections: ids of those that the page has.
    """
    study = data.study
    found = []
    unfinished = Counter(run.status for row in study.rows for run in row.runs.values() if not run.done)
    total = sum(len(row.runs) for row in study.rows)
    if unfinished:
        said = ", ".join(f"{number} {status}" for status, number in sorted(unfinished.items()))
        found.append(f"{total - sum(unfinished.values())} of {total} runs have finished; the others: {said}.")
    done = [len(row.records) for row in study.rows if row.records]
    if not done:
        return [*found, "Nothing has been scored yet: there are no charts."]
    if max(done) == 1:
        found.append("One seed: intervals are over images only and say nothing about the noise of training.")
    intervals = [one for one in data.rendering.comparisons.values() if one.interval]
    if not intervals:
        reasons = dict.fromkeys(_REASONS[one.reason] for one in data.rendering.comparisons.values())
        found.append(f"No differences with intervals: {'; '.join(reasons) or 'no row builds on another'}.")
    if "curves" not in sections:
        found.append("No training curves: no logs of the runs were found when this page was made.")
    if "browser" not in sections:
        found.append("No predictions on images: none were gathered from the runs' checkpoints.")
    return found + _left_out(data)


def _left_out(data: PageData) -> list[str]:
    """Runs whose predictions are missing, one sentence a reason."""
    by_reason: dict[str, list[str]] = {}
    for row in data.study.rows:
        for seed, run in row.runs.items():
            if run.folder.key in data.left_out:
                reason = data.left_out[run.folder.key].splitlines()[0]
                by_reason.setdefault(reason, []).append(f"{row.title} seed {seed}")
    return [f"No predictions of {', '.join(runs)}: {reason}" for reason, runs in by_reason.items()]
