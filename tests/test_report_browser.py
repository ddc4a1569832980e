"""The report in a real browser that has no network: it is drawn, can be used, and fits the reader's window."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ps.reader.commands.report import report
from tests.browser import CHROMIUM, Browser
from tests.conftest import need
from tests.synthetic import write_run

DRAWN = "document.documentElement.dataset.drawn == document.querySelectorAll('.plot').length"
HOSTILE = "<script>window.pwned=1</script><img src=http://127.0.0.1:9/x onerror='window.pwned=2'>"
MARKS = """[...document.querySelectorAll('.plot')].map(plot =>
  plot.querySelectorAll('.scatterlayer .js-line, .barlayer .point path, .heatmaplayer image').length)"""
BUTTONS = "[...document.querySelectorAll('.modebar-btn')].map(button => button.dataset.title)"
SCROLLS = "document.documentElement.scrollWidth > document.documentElement.clientWidth"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    need(CHROMIUM, "Chromium")
    chromium = Browser(tmp_path_factory.mktemp("profile"))
    yield chromium
    chromium.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return pages: of few ranks with a finding, of many, and of two runs."""
    folder = tmp_path_factory.mktemp("pages")
    verdict = {"code": HOSTILE, "severity": "warning", "ranks": [2], "text": HOSTILE, "remedy": HOSTILE, "evidence": {}}
    few = write_run(folder / "few", ranks=4, epochs=12, slow={2: 1.5}, more=[("verdict", verdict)])
    many = write_run(folder / "many", ranks=256, nodes=16, epochs=20, slow={77: 2.0})
    other = write_run(folder / "other", ranks=4, epochs=8, mode="send-recv")
    for name, runs in (("few", [few]), ("many", [many]), ("both", [few, other])):
        report(*runs, output=folder / f"{name}.html")
    return {name: folder / f"{name}.html" for name in ("few", "many", "both")}


@pytest.mark.parametrize("name", ["few", "many", "both"])
def test_every_chart_is_drawn_and_nothing_is_asked_for(name: str, browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages[name])
    browser.wait_for(DRAWN)
    marks = browser.evaluate(MARKS)
    assert len(marks) >= 10
    assert all(marks), marks
    pixels = browser.screenshot()
    assert pixels.std() > 0.05
    assert [address for address in browser.requests() if not address.startswith(("file://", "data:", "blob:"))] == []
    assert browser.problems() == []
    assert browser.evaluate("window.pwned") is None
    assert not browser.evaluate(SCROLLS)
    buttons = browser.evaluate(BUTTONS)
    assert "Zoom" in buttons
    assert "Share chart..." not in buttons  # plotly would upload the figures


def test_hover_legend_and_choice_work(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["few"], height=4000)
    browser.wait_for(DRAWN)
    x, y = browser.evaluate(
        """(() => { const box = document.querySelector('#chart-1 .scatterlayer .point').getBoundingClientRect();
        return [box.x + box.width / 2, box.y + box.height / 2]; })()"""
    )
    browser.mouse("mouseMoved", x, y)
    browser.wait_for("document.querySelector('#chart-1 .hoverlayer .hovertext')")
    assert "training" in browser.evaluate("document.querySelector('#chart-1 .hoverlayer .hovertext').textContent")

    x, y = browser.evaluate(
        """(() => { const box = document.querySelector('#chart-1 .legendtoggle').getBoundingClientRect();
        return [box.x + box.width / 2, box.y + box.height / 2]; })()"""
    )
    browser.click(x, y)
    browser.wait_for("document.getElementById('chart-1').data[0].visible === 'legendonly'")
    assert browser.evaluate("document.getElementById('chart-1').data[1].visible") in (None, True)

    shares = "document.querySelector('select').dataset.chart"
    before = browser.evaluate(f"JSON.stringify(document.getElementById({shares}).data.map(t => t.y))")
    browser.evaluate("document.querySelector('select').focus()")
    browser.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowDown", windowsVirtualKeyCode=40)
    browser.call("Input.dispatchKeyEvent", type="keyUp", key="ArrowDown", windowsVirtualKeyCode=40)
    browser.wait_for(f"JSON.stringify(document.getElementById({shares}).data.map(t => t.y)) !== {before!r}")
    assert browser.evaluate("document.querySelector('select').selectedOptions[0].text") == "W1"
    assert browser.problems() == []


@pytest.mark.parametrize("name", ["few", "many"])
def test_a_phone_shows_it_without_scrolling_sideways(name: str, browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages[name], width=360, height=740)
    browser.wait_for(DRAWN)
    browser.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert not browser.evaluate(SCROLLS)
    widths = browser.evaluate("[...document.querySelectorAll('.plot .main-svg')].map(svg => svg.clientWidth)")
    assert max(widths) <= 360
    assert browser.problems() == []


def test_a_dark_screen_gets_a_dark_page(browser: Browser, pages: dict[str, Path]) -> None:
    ink = "getComputedStyle(document.querySelector('#chart-1 .xtitle')).fill"
    browser.open(pages["few"])
    browser.wait_for(DRAWN)
    assert browser.evaluate(ink) == "rgb(27, 31, 36)"
    assert browser.screenshot().mean() > 0.85
    browser.prefer("dark")  # the reader's system may change while the page is open
    browser.wait_for(f"{ink} === 'rgb(232, 235, 238)'")
    assert browser.screenshot().mean() < 0.25
    assert browser.problems() == []
