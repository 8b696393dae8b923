from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import chromium
from tests.report.conftest import EVIL

pytestmark = pytest.mark.end_to_end

WIDTHS = (400, 1400)
OVERFLOWING = """
const width = document.documentElement.clientWidth;
return [...document.querySelectorAll('main p, main h2, main figure, main .table, main pre, nav a')]
  .filter(one => one.getBoundingClientRect().right > width + 0.5)
  .map(one => one.tagName + ' ' + one.textContent.slice(0, 40));
"""
CLIPPED = """
return [...document.querySelectorAll('figure svg')].flatMap(svg => {
  const frame = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('text')].filter(text => {
    const box = text.getBoundingClientRect();
    return box.right > frame.right + 2 || box.left < frame.left - 2
      || box.bottom > frame.bottom + 2 || box.top < frame.top - 2;
  }).map(text => svg.parentElement.id + ': ' + text.textContent);
});
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile"), "the report") as driver:
        yield driver


def look(browser: Any, page: Path, width: int) -> None:
    """Open `page` on a screen of `width` pixels."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(page.resolve().as_uri())


def test_no_errors_and_no_requests(browser: Any, page: Path) -> None:
    browser.get_log("performance")
    look(browser, page, 1400)
    assert browser.get_log("browser") == []
    messages = [json.loads(one["message"])["message"] for one in browser.get_log("performance")]
    sent = [one["params"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    ours = {one["request"]["url"] for one in sent if one["documentURL"] == page.resolve().as_uri()}
    assert page.resolve().as_uri() in ours
    assert {url.partition(":")[0] for url in ours} <= {"file", "data"}


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_overflows(browser: Any, page: Path, width: int) -> None:
    look(browser, page, width)
    script = "return document.documentElement.scrollWidth"
    assert browser.execute_script(script) <= width
    assert browser.execute_script(OVERFLOWING) == []


@pytest.mark.parametrize("width", WIDTHS)
def test_no_label_of_a_picture_is_clipped(browser: Any, page: Path, width: int) -> None:
    look(browser, page, width)
    assert browser.execute_script(CLIPPED) == []


SCROLLING = """
return [...document.querySelectorAll('.table')].filter(one => one.scrollWidth > one.clientWidth)
  .map(one => getComputedStyle(one).backgroundAttachment);
"""


def test_tables_that_go_on_behind_the_edge_have_a_shadow_there(browser: Any, page: Path) -> None:
    look(browser, page, 400)
    found = browser.execute_script(SCROLLING)
    assert found
    assert set(found) == {"local, local, scroll, scroll"}


def test_links_lead_to_their_sections(browser: Any, page: Path) -> None:
    from selenium.webdriver.common.by import By

    look(browser, page, 1400)
    browser.execute_script("document.documentElement.style.scrollBehavior = 'auto'")
    for link in browser.find_elements(By.CSS_SELECTOR, "nav a"):
        anchor = link.get_attribute("href").rpartition("#")[2]
        browser.execute_script("arguments[0].click()", link)
        top = browser.execute_script(
            "return document.getElementById(arguments[0]).getBoundingClientRect().top", anchor
        )
        end = browser.execute_script(
            "return scrollY + innerHeight >= document.documentElement.scrollHeight - 2"
        )
        assert abs(top) < 2 or end, anchor


def test_a_script_in_a_name_is_shown(browser: Any, evil_page: Path) -> None:
    look(browser, evil_page, 1400)
    assert browser.title == f"{EVIL} & more"
    assert EVIL in browser.execute_script("return document.body.innerText")
    assert browser.execute_script("return document.scripts.length") == 0
