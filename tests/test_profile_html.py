"""The HTML report: every plot drawn, nothing asked of the network, opened by a real browser where there is one."""

from __future__ import annotations

import http.server
import re
import shutil
import subprocess
import threading
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import profile_reports as made
import pytest

from edgekit.profiling import svg
from edgekit.profiling.html import render_html
from edgekit.profiling.report import Report

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def full() -> Report:
    first = made.samples(6000, knee_at=0.6, slower_after=1.4)
    return made.report(first, trace=made.trace(first.duration_s, knee_at=0.6, throttled=True), is_sustained=True)


def pictures(page: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(found) for found in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


def test_every_plot_is_there_and_has_its_marks() -> None:
    by_title = {image.attrib.get("aria-label", ""): image for image in pictures(render_html(full()))}
    plots = {
        "Latency over time": "polyline",
        "Temperature (temp.cpu)": "polyline",
        "Clock (clock.policy0)": "polyline",
        "How long the runs took": "rect",
        "Where the time goes, predict": "rect",
        "A fresh process to its first answer": "rect",
        "Resident at the end of each phase": "rect",
    }
    for title, mark in plots.items():
        image = next(image for label, image in by_title.items() if label.startswith(title))
        assert image.findall(f".//{mark}"), title


def test_few_runs_are_one_dot_each() -> None:
    page = render_html(made.report(made.samples(400)))
    assert page.count("<circle") == 400


def test_every_number_of_a_picture_is_finite_and_inside_it() -> None:
    for image in pictures(render_html(full())):
        _, _, width, height = map(float, image.attrib["viewBox"].split())
        for element in image.iter():
            for name, limit in (("x", width), ("cx", width), ("x1", width), ("y", height), ("cy", height)):
                if name in element.attrib:
                    assert -1.0 <= float(element.attrib[name]) <= limit + 1.0, element.attrib
            for pair in element.attrib.get("points", "").split():
                x, y = map(float, pair.split(","))
                assert -1.0 <= x <= width + 1.0
                assert -1.0 <= y <= height + 1.0


class Addresses(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "action", "data", "poster")]
        assert tag not in ("script", "iframe", "object", "embed", "img")


def test_the_page_names_no_address_and_has_no_script() -> None:
    page = render_html(full())
    parser = Addresses()
    parser.feed(page)
    assert parser.found == ["data:,"]  # the icon that keeps browsers from asking for one
    assert not re.search(r"https?://|@import|url\(", page)
    assert "default-src 'none'" in page
    assert "prefers-color-scheme:dark" in page
    assert "width=device-width" in page


def test_names_from_a_model_cannot_become_markup() -> None:
    evil = "<script>alert(1)</script>\"'&"
    subject = made.facts().subject.replace(name=evil)
    stages = {evil: 1.0}
    page = render_html(made.report(made.samples(shares=stages), subject=subject))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert len(pictures(page)) >= 6  # each still parses as XML


def test_what_is_absent_is_said_in_the_page() -> None:
    page = render_html(
        made.report(
            trace=None, cold_start=(), operators=(), absent={"cold_start": "was too slow", "operators": "no profiler"}
        )
    )
    assert "was too slow" in page
    assert "the profile was cut short before it" in page


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.0, 10.0, [0, 5, 10]), (0.0, 1.0, [0, 0.5, 1.0]), (95.0, 105.0, [95, 100, 105]), (3.0, 3.0, [3.0])],
)
def test_ticks_are_round_numbers(low: float, high: float, expected: list[float]) -> None:
    assert svg.ticks(low, high) == pytest.approx(expected)


def test_one_run_and_equal_runs_can_be_drawn() -> None:
    for measured in (made.samples(1), made.samples(5, spread=0.0)):
        assert pictures(render_html(made.report(measured)))


class Counting(http.server.SimpleHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(("width", "dark"), [(412, False), (412, True), (1200, False)])
def test_a_real_browser_draws_it_and_asks_for_nothing_else(tmp_path: Path, width: int, dark: bool) -> None:
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    (tmp_path / "report.html").write_text(render_html(full()))
    handler = type("Handler", (Counting,), {"asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *given: handler(*given, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},3000"]
        command += ["--blink-settings=preferredColorScheme=0"] if dark else []
        command += [f"--screenshot={tmp_path / 'shot.png'}"]
        command += [f"http://127.0.0.1:{server.server_address[1]}/report.html"]
        subprocess.run(command, capture_output=True, timeout=60, check=True, cwd=tmp_path)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert handler.asked == ["/report.html"]
    from PIL import Image

    with Image.open(tmp_path / "shot.png") as shot:
        colours = shot.convert("RGB").getcolors(1 << 22) or []
    by_count = {colour: count for count, colour in colours}
    page = (0x15, 0x17, 0x1A) if dark else (0xFB, 0xFB, 0xFA)
    assert by_count.get(page, 0) > sum(by_count.values()) * 0.1  # the page's own background in this colour scheme
    line = (0x6A, 0xA9, 0xEE) if dark else (0x1F, 0x5F, 0xA8)
    warm = (0xEF, 0x8F, 0x63) if dark else (0xB3, 0x47, 0x1D)
    assert by_count.get(line, 0) > 500  # bars of histogram and memory
    assert by_count.get(warm, 0) > 20  # temperature and clock
