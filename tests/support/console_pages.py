"""Act on the pages of the console as a person: press buttons, answer questions, move with Tab."""

import re

from playwright.sync_api import Locator, Page, expect

from support.console_lab import ConsoleLab
from support.synthetic_instances import Instance

TABS_MOST = 60
SCREENS = (
    "/",
    "/studies",
    "/deliveries",
    "/destinations",
    "/queue",
    "/refusals",
    "/faults",
    "/activity",
    "/accounts",
)
FOR_ADMINS = ("/faults", "/accounts")


def pages_of(console: ConsoleLab, delivered: list[Instance]) -> list[str]:
    """Return the path of every page that a signed-in account can open."""
    study, delivery = delivered[0].study_instance_uid, console.delivery(delivered[0])
    return [*SCREENS, f"/studies/{study}", f"/deliveries/{delivery}", "/queue/dead", "/account"]


def confirm(page: Page, button: Locator, name: str | re.Pattern[str], **answers: str) -> str:
    """Press a button, answer what the dialog asks, confirm; return the sentence that the console says."""
    expect(button).to_be_visible()
    page.wait_for_load_state()  # before its scripts have run, a page asks on a page of its own
    button.click()
    dialog = page.locator("#dialog")
    expect(dialog).to_be_visible()
    for label, answer in answers.items():
        field = dialog.get_by_label(label.replace("_", " "), exact=True)
        if field.evaluate("field => field.tagName") == "SELECT":
            field.select_option(answer)
        else:
            field.fill(answer)
    dialog.get_by_role("button", name=name).click()
    return said(page)


def said(page: Page) -> str:
    """Return the sentence about what was done."""
    flash = page.locator("p.flash[role=status]")
    expect(flash).to_be_visible()
    return flash.inner_text().strip()


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until the focus is on that element, and see that it has a visible outline."""
    for _ in range(TABS_MOST):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement?.matches(selector) ?? false", selector):
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", selector
            return
    raise AssertionError(f"Tab does not lead to {selector}")
