"""The report in a real browser that has no network: it is drawn, can be used, and fits the reader's window."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ps.reader.commands.report import report
from tests.browser import CHROMIUM, Browser
from tests.conftest import need
from tests.synthetic import write_run

DRAWN = """document.documentElement.dataset.drawn ==
  [...document.querySelectorAll('.plot')].filter(plot => plot.checkVisibility()).length"""
HOSTILE = "<script>window.pwned=1</script><img src=http://127.0.0.1:9/x onerror='window.pwned=2'>"
UNFOLD = "document.querySelectorAll('details').forEach(fold => fold.open = true)"
BOXES = """Object.fromEntries(Object.entries({tiles: '.tile', findings: '.finding', charts: '.plot'}).map(
  ([name, found]) => [name, [...document.querySelectorAll(found)].map(box => box.getBoundingClientRect().toJSON())]))"""
SHADES = """[...document.querySelectorAll('.js-line, .barlayer .point path, .scatterlayer .point')].map(mark => {
  const style = getComputedStyle(mark);
  return mark.classList.contains('js-line') ? style.stroke : style.fill; }).filter(shade => shade.startsWith('rgb('))"""
MARKS = """[...document.querySelectorAll('.plot')].map(plot =>
  plot.querySelectorAll('.scatterlayer .js-line, .barlayer .point path, .heatmaplayer image').length)"""
BUTTONS = "[...document.querySelectorAll('.modebar-btn')].map(button => button.dataset.title)"
SCROLLS = "document.documentElement.scrollWidth > document.documentElement.clientWidth"

pytestmark = [pytest.mark.slow, pytest.mark.any_mpi, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    need(CHROMIUM, "Chromium")
    chromium = Browser(tmp_path_factory.mktemp("profile"))
    yield chromium
    chromium.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return pages: of few ranks with a finding, of many, of two runs and of three."""
    folder = tmp_path_factory.mktemp("pages")
    verdict = {"code": HOSTILE, "severity": "warning", "ranks": [2], "text": HOSTILE, "remedy": HOSTILE, "evidence": {}}
    few = write_run(folder / "few", ranks=4, epochs=12, slow={2: 1.5}, more=[("verdict", verdict)])
    many = write_run(folder / "many", ranks=256, nodes=16, epochs=20, slow={77: 2.0})
    other = write_run(folder / "other", ranks=4, epochs=8, mode="send-recv")
    busy = write_run(
        folder / "busy", ranks=4, epochs=40, more=[("verdict", verdict | {"ranks": [r]}) for r in range(4)]
    )
    crowd = [("verdict", verdict | {"ranks": [rank], "text": "Word " * 60}) for rank in range(12)]
    crowded = [write_run(folder / f"crowd-{i}", ranks=16, epochs=40, more=crowd) for i in range(3)]
    made = {"crowded": crowded, "few": [few], "many": [many], "both": [few, other], "three": [few, other, busy]}
    for name, runs in made.items():
        report(*runs, output=folder / f"{name}.html")
    return {name: folder / f"{name}.html" for name in made}


@pytest.mark.parametrize("name", ["few", "many", "both"])
def test_every_chart_is_drawn_and_nothing_is_asked_for(name: str, browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages[name])
    browser.evaluate(UNFOLD)
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
    browser.evaluate(UNFOLD)
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


def test_the_first_screen_has_five_tiles_then_findings_then_charts(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["few"], width=1280, height=800)
    browser.wait_for(DRAWN)
    boxes = browser.evaluate(BOXES)
    assert len(boxes["tiles"]) == 5
    assert len({box["top"] for box in boxes["tiles"]}) == 1  # side by side
    assert max(box["bottom"] for box in boxes["tiles"]) <= boxes["findings"][0]["top"]
    assert boxes["findings"][-1]["bottom"] <= boxes["charts"][0]["top"] < 800
    assert browser.evaluate("document.querySelectorAll('details[open]').length") == 0
    hidden = "[...document.querySelectorAll('.marked, td')].every(cell => !cell.checkVisibility())"
    assert browser.evaluate(hidden)  # configuration, environment and the charts' tables are folded


@pytest.mark.parametrize("name", ["three", "crowded"])
def test_three_runs_take_at_most_8000_pixels(name: str, browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages[name], width=1280, height=800)
    browser.wait_for(DRAWN)
    assert 1000 < browser.evaluate("document.documentElement.scrollHeight") <= 8000
    assert browser.evaluate("document.querySelectorAll('.finding').length") == (1 + 1 + 4 if name == "three" else 36)


def test_the_comparison_of_three_runs_comes_first(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["three"], width=1280, height=800)
    browser.wait_for(DRAWN)
    assert browser.evaluate("document.querySelector('h2').textContent") == "Runs side by side"
    assert browser.evaluate("document.querySelector('table').getBoundingClientRect().bottom") < 800
    assert browser.evaluate("document.querySelectorAll('table')[1].textContent").count("no difference shown") == 2
    assert browser.evaluate(MARKS)[:2] != [0, 0]

    folded = "document.querySelector('#run-2').open"
    assert not browser.evaluate(folded)
    browser.evaluate("document.querySelector('nav a[href=\"#run-2\"]').focus()")
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key="Enter", windowsVirtualKeyCode=13, text="\r")
    browser.wait_for(folded)
    browser.wait_for(DRAWN)
    plots = browser.evaluate("document.querySelectorAll('#run-2 .plot .main-svg').length")
    assert plots >= browser.evaluate("document.querySelectorAll('#run-2 .plot').length") > 10
    assert browser.problems() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_line_and_bar_stands_out_from_the_page(scheme: str, browser: Browser, pages: dict[str, Path]) -> None:
    """WCAG 2.2, 1.4.11: 3 to 1 for what is not text."""
    browser.open(pages["both"], scheme=scheme)
    browser.evaluate(UNFOLD)
    browser.wait_for(DRAWN)
    ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    shades = set(browser.evaluate(SHADES))
    assert len(shades) >= 8
    for shade in shades:
        low, high = sorted(map(luminance, (shade, ground)))
        assert (high + 0.05) / (low + 0.05) >= 3, (shade, ground)


def luminance(colour: str) -> float:
    """Return the relative luminance of ``rgb(r, g, b)`` (WCAG 2.2)."""
    parts = (int(part) / 255 for part in re.findall(r"[0-9]+", colour))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_the_loss_is_drawn_over_decades(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["three"])
    browser.evaluate(UNFOLD)
    browser.wait_for(DRAWN)
    kinds = """Object.fromEntries([...document.querySelectorAll('#run-3 figure')].filter(f => f.querySelector('.plot'))
      .map(f => [f.querySelector('h4').textContent, f.querySelector('.plot')._fullLayout.yaxis.type]))"""
    found = browser.evaluate(kinds)
    assert (found["Loss"], found["Loss by rank"], found["Gradient norm"]) == ("log", "log", "log")
    assert found["Rows a second"] == "linear"
    legend = "[...document.querySelectorAll('#run-3 .legendtext')].map(entry => entry.textContent)"
    assert not {"summing", "median"} & set(browser.evaluate(legend))
