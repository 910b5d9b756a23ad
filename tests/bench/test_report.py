from itertools import product
from pathlib import Path

from bench.load import Measurement
from bench.performance import MAIN_CLIPS
from bench.report import Report, write


def written(path: Path, *at_once: int) -> str:
    names = ("limit", "service", "service, fast", "naive")
    measurements = [
        Measurement(name, clip, count, 0.5, 2.0, (0.5, 1.0), 0.0, is_right=True)
        for _, name, clip, count in product(range(5), names, MAIN_CLIPS, at_once)
    ]
    sizes = dict.fromkeys(MAIN_CLIPS, 1_000_000)
    write(Report("tiny", 5, measurements, sizes, (4.0, 2.0), 400.0, {}, -0.001, "float32", 0.001), path)
    return path.read_text()


def test_the_report_says_what_it_was_measured_with(tmp_path: Path) -> None:
    text = written(tmp_path / "it.md", 1, 16)

    assert "Medians over 5 rounds" in text
    assert " cores of " in text.splitlines()[2]
    assert "used 0 % before" in text
    assert "AFTERFRAME_MODELS=tiny" in text
    assert "| 240p | 16 | 0.500, 2.00, 750 | 1.00x, 1.00x, 1.00x | 1.00x, 1.00x, 1.00x | yes, yes |" in text


def test_a_busy_machine_has_a_report_of_one_request_at_a_time(tmp_path: Path) -> None:
    text = written(tmp_path / "it.md", 1)

    assert "| 240p | 1 | 0.500, 2.00, 750 | 1.00x, 1.00x, 1.00x |" in text
    assert "(PSS of all its processes) with 1 at once" in text
    assert (tmp_path / "it.png").exists()
