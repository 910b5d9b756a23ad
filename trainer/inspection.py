"""`inspect`: a data set before it is trained on."""

from pathlib import Path

from trainer.data.cache import open_video
from trainer.data.checks import count_table, find_problems, spreads
from trainer.data.contact_sheet import draw_contact_sheet
from trainer.data.prepare import DataOptions, cache_spec, decode_data, list_videos
from trainer.data.rows import InvalidListing
from trainer.data.splits import split_by_group
from trainer.recipe.classify import ClassifyRecipe
from trainer.tables import table


def inspect_data(options: DataOptions, recipe: ClassifyRecipe, output: Path) -> str:
    """A report in Markdown, also in `output`, beside a contact sheet. Raises InvalidListing."""
    videos = list_videos(options)
    remark = ""
    try:
        videos = split_by_group(videos, options.val_fraction, options.test_fraction)
    except InvalidListing as error:
        remark = f"\n\nIt cannot be divided: {error}"
    data = decode_data(videos, cache_spec(recipe), options)
    output.mkdir(parents=True, exist_ok=True)
    draw_contact_sheet(
        [open_video(item, data.labels) for item in data.decoded], data.labels, output / "contact_sheet.png"
    )
    facts = [[row.fact, row.split, f"{row.low:g}", f"{row.median:g}", f"{row.high:g}"] for row in spreads(data.decoded)]
    problems = find_problems(data.videos, data.decoded, data.broken)
    report = "\n\n".join(
        [
            f"# {options.data.name}",
            table(count_table([item.video for item in data.decoded])) + remark,
            table([["fact", "split", "smallest", "median", "largest"], *facts]),
            "\n".join(f"- left out: {item.video.path}: {item.reason}" for item in data.broken) or "No broken files.",
            "\n".join(f"- {problem}" for problem in problems) or "Nothing suspicious found.",
        ]
    )
    (output / "report.md").write_text(report + "\n", encoding="utf-8")
    return f"{report}\n\n{output}"
