from itertools import product
from pathlib import Path

from bench.load import Measurement
from bench.performance import MAIN_CLIPS
from bench.report import Report, write


def test_the_report_says_what_it_was_measured_with(tmp_path: Path) -> None:
    names = ("limit", "service", "service, fast", "naive")
    measurements = [
        Measurement(name, clip, at_once, 0.5, 2.0, (0.5, 1.0), 0.0, is_right=True)
        for _, name, clip, at_once in product(range(5), names, MAIN_CLIPS, (1, 16))
    ]
    sizes = dict.fromkeys(MAIN_CLIPS, 1_000_000)
    write(Report("tiny", 5, measurements, sizes, (4.0, 2.0), 400.0, {}, -0.001, "float32", 0.001), tmp_path / "it.md")

    text = (tmp_path / "it.md").read_text()
    assert "Medians over 5 rounds" in text
    assert " cores of " in text.splitlines()[2]
    assert "used 0 % before" in text
    assert "AFTERFRAME_MODELS=tiny" in text
    assert "| 240p | 16 | 0.500, 2.00, 750 | 1.00x, 1.00x, 1.00x | 1.00x, 1.00x, 1.00x | yes, yes |" in text
