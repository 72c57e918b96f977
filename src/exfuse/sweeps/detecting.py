"""What a study would need to tell a difference, as a table: ``exfuse budget detect=0.5``."""

from collections.abc import Mapping

from exfuse.analysis.draws import FRAMES, GROUPS, IMAGES, NOTHING
from exfuse.analysis.power import MOST_SEEDS, POWER, Pilot, images_for, seeds_for, told_by
from exfuse.errors import plural, rounded
from exfuse.terminal import RichTable, table_columns

_SEEDS = (3, 5, 10)  # with which the images are looked for
_IMAGES = {
    IMAGES: "images as the pilot's, independent of each other",
    GROUPS: "images in groups as the pilot's, with as many more groups",
    FRAMES: "images in sequences as the pilot's, as much longer",
    NOTHING: "images are one group, whose number tells nothing",
}


def detection_table(pilot: Pilot, points: float, counted: Mapping[str, float], kind: str = "") -> RichTable:
    """One line a comparison: what its seeds can tell, and the seeds or images that would tell ``points``.

    Args:
        pilot: whose noise it is.
        points: of mIoU.
        counted: hours of one run of each row, where they were counted; else the pilot's own hours stand.
        kind: of the device that they are of.
    """
    names = ["comparison", "tells now", f"seeds for {points:g}", *(f"or images with {seeds} seeds" for seeds in _SEEDS)]
    needed: dict[str, int] = {}
    lines, unknown, kinds = [], False, set[str]()
    for (row, base), spread in pilot.spreads().items():
        name = f"{row} vs {base}"
        if spread is None or not spread.is_seen:
            why = "one seed" if spread is None else "no noise in these runs"
            lines.append([name, f"{why}: unknown", "-", *("-" for _ in _SEEDS)])
            unknown = True
            continue
        kinds.add(spread.units.kind)
        told = 100 * told_by(spread, spread.seeds, spread.images, pilot.level)
        seeds = seeds_for(points / 100, spread, spread.images, pilot.level)
        images = [images_for(points / 100, spread, number, pilot.level) for number in _SEEDS]
        now = f"{told:.2f} points ({plural(spread.seeds, 'seed')}, {spread.images} images)"
        more = f"over {MOST_SEEDS}" + (": more images" if spread.units.kind != NOTHING else "")
        lines.append([name, now, str(seeds) if seeds else more, *(f"{one:,}" if one else "-" for one in images)])
        unknown |= seeds is None
        for one in (row, base) if seeds else ():
            needed[one] = max(needed.get(one, 0), seeds or 0)
    all_counted = {*needed} <= {*counted}
    per_run = counted if all_counted else pilot.hours()
    hours = sum(seeds * per_run.get(name, 0.0) for name, seeds in needed.items())
    runs = sum(needed.values())
    of = f"{kind} hours, counted".lstrip() if all_counted and counted else "hours, as the pilot's runs took"
    scope = "all that can be told" if unknown else "all"
    footers = [scope, "", f"{plural(runs, 'run')}, {rounded(hours)} {of}", *("" for _ in _SEEDS)]
    title = f"To tell {points:g} points with {100 * POWER:.0f} % power"
    table = RichTable(*table_columns(names, names, footers), title=title, show_footer=True)
    for line in lines:
        table.add_row(*line)
    table.caption = (
        f"At the level of one of {plural(len(pilot.pairs), 'comparison')}: {100 * pilot.level:.2f} %. An estimate from the "
        f"pilot's noise, of which few seeds know little; {'; '.join(_IMAGES[kind] for kind in sorted(kinds or {IMAGES}))}."
    )
    return table
