"""Which images a command means."""

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from exfuse.data.split import Item, Split
from exfuse.errors import DataError
from exfuse.reports.features.sources import Chosen, find_images, find_sources
from exfuse.store.folder import RunFolder
from tests.described import arguments_of
from tests.records import leave_record


def test_an_image_is_named_by_place_id_or_what_the_command_line_makes_of_its_id(tmp_path: Path) -> None:
    items = tuple(Item(id, Path(f"{id}.jpg"), Path(f"{id}.png")) for id in ("2007_000033", "2008_000009", "7"))
    split = Split("some val", items, ("a", "b"))
    asked = OverridesParser.create().parse_override("image=2008_000009").value()
    assert asked == 2008000009  # Hydra reads underscores as separators of thousands
    assert find_images(asked, split)[0].name == "2008_000009"
    assert find_images(0, split)[0].name == "2007_000033"
    assert find_images(7, split)[0].name == "7"  # an id before a place
    assert find_images("2007_000033", split)[0].image == Path("2007_000033.jpg")
    with pytest.raises(DataError, match=r"image=2007_00003: some val has no image.*2007_000033.*from 0 to 2"):
        find_images("2007_00003", split)
    with pytest.raises(DataError, match="image=-1"):
        find_images(-1, split)
    with pytest.raises(DataError, match="overwrite"):
        find_images([0, "2007_000033"], split)
    with pytest.raises(DataError, match="names no image"):
        find_images([], split)


def test_runs_that_are_no_seeds_of_one_setting_are_not_one_row(tmp_path: Path) -> None:
    common = {"label": "baseline", "options": {"seb": "none"}}

    def rows(*runs: tuple[int, str]) -> list[str]:
        for place, (seed, loss) in enumerate(runs):
            folder = RunFolder(tmp_path, f"{place:016x}")
            folder.path.mkdir(exist_ok=True)
            leave_record(folder, "done", seed=seed, config={"loss": {"option": loss}}, **common)
        paths = [str(tmp_path / f"{place:016x}") for place in range(len(runs))]
        return [source.run.row for source in find_sources(paths, None, str(tmp_path))]

    assert rows((0, "dice"), (1, "dice")) == ["baseline", "baseline"]
    for unlike in (((0, "dice"), (1, "focal")), ((0, "dice"), (0, "dice"))):
        assert rows(*unlike) == ["baseline 00000000", "baseline 00000000"]


def test_a_path_is_a_photograph_and_a_name_a_safe_folder(tmp_path: Path) -> None:
    photo = tmp_path / "my cat.jpg"
    photo.write_bytes(b"")
    assert find_images([str(photo)], None) == [Chosen("my cat", photo, None)]
    assert find_images(str(photo), None)[0].folder == "my_cat"
    assert Chosen("../../x", photo, None).folder == "_.._x"
    with pytest.raises(DataError, match="there is no such file"):
        find_images("absent.jpg", None)


@pytest.mark.parametrize("asked", ["image=val_000090", "image=photo.jpg", "image=3", "image=[3,p.jpg]", "image=2008_000009"])
def test_the_command_line_takes_every_way_to_name_an_image(asked: str) -> None:
    arguments_of("report_features", asked)
