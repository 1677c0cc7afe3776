"""The page in a real Chromium: it sorts, filters and explains by mouse and keyboard, on a desk and on a phone."""

import dataclasses
import math
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from samplerbench.benchmarks.plan import Suite
from samplerbench.benchmarks.report import write_leaderboard

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.chrome.options import Options  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.select import Select  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium with chromedriver on this machine")

Run = Callable[[Suite, Path], None]
EVIL = '"><img src=x onerror=alert(2)><script>alert(1)</script>'
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = Options()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER), env={**os.environ, "LC_ALL": "C.UTF-8"}))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: Any, make_suite: Callable[..., Suite], run_here: Run, tmp_path: Path) -> Iterator[Any]:
    """The page of a small suite whose rows have evil names, open on a desk in light colours."""
    suite = make_suite("not", "raise", "diverge")
    labels = ("not", EVIL, "diverge")
    samplers = tuple(dataclasses.replace(item, label=label) for item, label in zip(suite.samplers, labels, strict=True))
    run_here(dataclasses.replace(suite, samplers=samplers, description=EVIL), tmp_path / "store")
    write_leaderboard(tmp_path / "store", tmp_path / "to")
    look(browser, 1280, 900, "light")
    browser.get((tmp_path / "to" / "leaderboard.html").as_uri())
    yield browser
    assert complaints(browser) == []


def look(browser: Any, width: int, height: int, scheme: str) -> None:
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": "reduce"},
    ]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def complaints(browser: Any) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] in {"SEVERE", "WARNING"}]


def rows(browser: Any) -> list[str]:
    """Names of the rows of the first target that are shown, in their order."""
    script = """return [...document.querySelectorAll('section.target tr[data-status]')].filter(row => row.offsetParent)
                .map(row => row.dataset.name)"""
    return list(browser.execute_script(script))


def button(browser: Any, title: str) -> Any:
    return browser.find_element(By.XPATH, f"//section[contains(@class,'target')]//th/button[.='{title}']")


def sorted_as(browser: Any, title: str) -> str:
    return str(button(browser, title).find_element(By.XPATH, "..").get_attribute("aria-sort"))


def test_a_column_is_sorted_by_click_and_by_keyboard(page: Any) -> None:
    assert sorted(rows(page)) == sorted(["not", EVIL, "diverge"])
    button(page, "sampler").click()
    assert rows(page) == [EVIL, "diverge", "not"]
    assert sorted_as(page, "sampler") == "ascending"
    assert sorted_as(page, "place") == "none"
    button(page, "sampler").send_keys(Keys.ENTER)
    assert rows(page) == ["not", "diverge", EVIL]
    assert sorted_as(page, "sampler") == "descending"
    for _ in range(2):  # unknown values are last, whichever way
        button(page, "energy_w1" if button(page, "energy_w1").is_displayed() else "sliced_w2").send_keys(Keys.SPACE)
        assert rows(page)[0] == "not"


def test_rows_are_filtered_by_name_and_status(page: Any) -> None:
    find = page.find_element(By.ID, "find")
    find.send_keys("DIV, no such")
    assert rows(page) == ["diverge"]
    assert page.find_element(By.ID, "count").text == "1 of 3 rows shown"
    find.clear()
    find.send_keys(Keys.SPACE)
    assert len(rows(page)) == 3
    status = Select(page.find_element(By.ID, "status"))
    status.select_by_value("failed")
    assert rows(page) == [EVIL]
    status.select_by_value("!ok")
    assert sorted(rows(page)) == sorted([EVIL, "diverge"])


def test_columns_come_and_go(page: Any) -> None:
    head = button(page, "energy_w1")
    assert not head.is_displayed()
    page.find_element(By.CSS_SELECTOR, "#columns summary").click()
    box = page.find_element(By.XPATH, "//*[@id='columns']//label[contains(., 'energy_w1')]/input")
    box.click()
    assert head.is_displayed()
    box.click()
    assert not head.is_displayed()


def test_what_a_cell_has_to_say_opens_on_focus_and_closes_on_escape(page: Any) -> None:
    cell = page.find_element(By.CSS_SELECTOR, "section.target td[data-t][tabindex='0']")
    tip = page.find_element(By.ID, "tip")
    assert not tip.is_displayed()
    page.execute_script("arguments[0].focus()", cell)
    assert tip.is_displayed()
    assert tip.text == cell.get_attribute("data-t")
    assert cell.get_attribute("aria-describedby") == "tip"
    box = tip.rect
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 1280
    cell.send_keys(Keys.ESCAPE)
    assert not tip.is_displayed()


def test_arrow_keys_move_between_the_cells_that_say_more(page: Any) -> None:
    stops = page.find_elements(By.CSS_SELECTOR, "section.target td[tabindex='0']")
    assert len(stops) == 1  # one stop of the Tab key for the whole table
    page.execute_script("arguments[0].focus()", stops[0])
    before = page.switch_to.active_element.get_attribute("data-t")
    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    focused = page.switch_to.active_element
    assert focused.tag_name == "td"
    assert focused.get_attribute("data-t") != before
    assert page.find_element(By.ID, "tip").text == focused.get_attribute("data-t")


def test_names_are_text(page: Any) -> None:
    assert page.find_elements(By.TAG_NAME, "img") == []
    assert len(page.find_elements(By.TAG_NAME, "script")) == 1
    assert EVIL in page.find_element(By.CSS_SELECTOR, ".lead").text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_both_schemes(page: Any, scheme: str) -> None:
    look(page, 1280, 900, scheme)
    script = (
        "const s = getComputedStyle(arguments[0]); return [s.color, getComputedStyle(document.body).backgroundColor]"
    )
    for selector in ("h1", ".muted", ".short a.name", ".bad", ".front text, .panels figcaption"):
        ink, paper = page.execute_script(script, page.find_element(By.CSS_SELECTOR, selector))
        assert contrast(ink, paper) >= 4.5, (selector, ink, paper)
    paper = page.execute_script(script, page.find_element(By.TAG_NAME, "h1"))[1]
    assert (luminance(paper) < 0.1) == (scheme == "dark")


def test_a_phone_does_not_scroll_sideways(page: Any) -> None:
    look(page, 390, 844, "light")
    page.refresh()
    page.find_element(By.ID, "words").click()
    width, inner = page.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert width <= inner == 390
    box = page.find_element(By.CSS_SELECTOR, "section.target .box")
    assert page.execute_script("return arguments[0].scrollWidth > arguments[0].clientWidth", box)
    page.execute_script("arguments[0].scrollLeft = 200", box)
    first = box.find_element(By.CSS_SELECTOR, "tbody th")
    assert abs(first.rect["x"] - box.rect["x"]) <= 2  # the name stays


def test_without_scripts_every_row_is_there(page: Any) -> None:
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.refresh()
        found = page.find_elements(By.CSS_SELECTOR, "section.target tr[data-status]")
        assert all(row.is_displayed() for row in found)
        assert len(found) == 3
        assert button(page, "energy_w1").is_displayed()
        assert not page.find_element(By.ID, "find").is_displayed()
    finally:
        page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def luminance(colour: str) -> float:
    """Relative luminance of ``rgb(r, g, b)``, WCAG 2.2."""
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else math.pow((part + 0.055) / 1.055, 2.4) for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(ink: str, paper: str) -> float:
    low, high = sorted([luminance(ink), luminance(paper)])
    return (high + 0.05) / (low + 0.05)
