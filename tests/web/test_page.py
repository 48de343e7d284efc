"""The page as a person uses it: in Chromium, before a server with two workers."""

import base64
import io
import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from axe_playwright_python.sync_playwright import Axe
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import BrowserContext, FilePayload, Locator, Page, Request, Route, expect

from models.store import Store
from tests.bundles import CARS, IMAGE, make_bundle
from tests.e2e.server import Server, wait_for
from tests.web.conftest import KEY, TASKS, Watch, visit, watch_pages


def summary(page: Page) -> Locator:
    return page.locator(".summary")


def curl(page: Page) -> str:
    return page.get_by_label("curl command").inner_text()


def run_curl(line: str) -> dict[str, Any]:
    """What the line that the page shows answers in a shell."""
    shell = subprocess.run(["bash", "-c", line], capture_output=True, check=True, timeout=30)
    answer: dict[str, Any] = json.loads(shell.stdout)
    return answer["predictions"][0]  # type: ignore[no-any-return]


def sent(page: Page) -> Any:
    """The instance in the command line of a JSON request."""
    return json.loads(shlex.split(curl(page))[-1])["instances"][0]


def pixels(png: str) -> NDArray[np.uint8]:
    """Of a picture in base64."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("L"))


def asks_about_the_drawing(page: Page) -> bool:
    """Whether the command line, which comes with the request, is about what is on the paper now."""
    paper = page.evaluate("document.querySelector('.paper canvas').toDataURL()").partition(",")[2]
    return np.array_equal(pixels(shlex.split(curl(page))[1]), pixels(paper))


def picture(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (28, 28), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def predicted(server: Server, model: str, **request: Any) -> dict[str, Any]:
    answer = httpx.post(f"{server.url}/predict/{model}", timeout=30, **request)
    return answer.raise_for_status().json()["predictions"][0]  # type: ignore[no-any-return]


def give(page: Page, way: str, name: str, data: bytes) -> None:
    """A file by the button, by dropping or by pasting it."""
    if way == "choose":
        chosen = page.get_by_label("Choose a picture")
        chosen.set_input_files([FilePayload(name=name, mimeType="image/png", buffer=data)])
        return
    page.evaluate(
        """([bytes, name, way]) => {
            const given = new DataTransfer();
            given.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
            const event = way === "drop"
                ? new DragEvent("drop", { dataTransfer: given, bubbles: true, cancelable: true })
                : new ClipboardEvent("paste", { clipboardData: given, bubbles: true });
            document.body.dispatchEvent(event);
        }""",
        [list(data), name, way],
    )


def live(server: Server, model: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{server.url}/live.json", timeout=30).raise_for_status().json()["models"][model]
    return found


def drag(page: Page, points: list[tuple[float, float]]) -> None:
    (x, y), *others = points
    page.mouse.move(x, y)
    page.mouse.down()
    for x, y in others:
        page.mouse.move(x, y, steps=4)
    page.mouse.up()


def test_each_kind_of_model_answers_its_example_with_a_form_from_its_schema(page: Page, server: Server) -> None:
    forms = {"clothes": ".paper", "cars": ".fields", "churn": ".fields", "heat": ".sequence", "machine": ".sequence"}
    for model, form in forms.items():
        visit(page, server, model)
        expect(page.locator(form)).to_be_visible()
        answer = predicted(server, model, json=httpx.get(f"{server.url}/models/{model}").json()["example"])
        # It is written once the example is in the form.
        expect(page.get_by_label("curl command")).to_contain_text(f"/predict/{model}")
        assert {**run_curl(curl(page)), "applied": None} == {**answer, "applied": None}
        shown = answer.get("label") or f"{answer.get('value', answer.get('forecast', [0])[-1]):.4g}".rstrip("0")
        expect(summary(page)).to_contain_text(shown)
        expect(page.get_by_text(re.compile(r"[0-9.]+ ms in the service, [0-9.]+ ms there and back"))).to_be_visible()


def test_what_is_drawn_is_asked_about_and_shown_as_the_model_saw_it(page: Page, server: Server) -> None:
    visit(page, server, "clothes")
    page.get_by_role("button", name="Clear").click()
    box = page.locator(".paper").bounding_box()
    assert box is not None
    corners = [(0.3, 0.2), (0.7, 0.2), (0.7, 0.8), (0.3, 0.8), (0.3, 0.2)]
    drag(page, [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners])
    # What is drawn is asked about on the way too.
    wait_for(lambda: asks_about_the_drawing(page))
    expect(page.locator(".saw")).to_contain_text("negated")
    expect(page.locator(".saw img")).to_have_js_property("naturalWidth", 28)
    answer = run_curl(curl(page))
    expect(summary(page)).to_contain_text(answer["label"])
    assert "negated" in answer["applied"]
    drawn = curl(page)
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_label("curl command")).not_to_have_text(drawn)


def test_a_picture_that_is_chosen_dropped_or_pasted_is_asked_about_as_it_is(page: Page, server: Server) -> None:
    visit(page, server, "clothes")
    for seed, way in enumerate(("choose", "drop", "paste")):
        data = picture(seed)
        give(page, way, f"{way} it.png", data)
        expect(page.get_by_label("curl command")).to_contain_text(f"@{way} it.png")
        expected = predicted(server, "clothes", content=data, headers={"content-type": "image/png"})
        best = page.locator(".bars .best")
        expect(best.locator(".name")).to_have_text(expected["label"])
        share = f"{100 * expected['confidence']:.1f}".removesuffix(".0")
        expect(best.locator(".share")).to_have_text(f"{share} %")
        expect(page.locator(".saw")).to_contain_text("the picture as it is")


def test_a_file_that_is_no_picture_is_refused_in_a_sentence(page: Page, server: Server, watch: Watch) -> None:
    watch.expected.append("status of 400")
    visit(page, server, "clothes")
    give(page, "choose", "x.png", b"no picture")
    expect(page.locator(".problem:visible")).to_contain_text("must be a PNG or JPEG picture. Received:")
    notes = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no picture"}
    page.get_by_label("Choose a picture").set_input_files(notes)
    expect(page.get_by_text("notes.txt", exact=True)).to_be_visible()


def test_a_slider_moves_the_answer_with_at_most_one_request_under_way(page: Page, server: Server) -> None:
    visit(page, server, "cars")
    under_way: set[Request] = set()
    asked: set[str] = set()
    most = []

    def begins(request: Request) -> None:
        if "/predict/" in request.url:
            asked.add(request.url.rpartition("/")[2])
            under_way.add(request)
            most.append(len(under_way))

    page.on("request", begins)
    # Playwright takes no built-in function.
    page.on("requestfinished", lambda request: under_way.discard(request))  # noqa: PLW0108
    box = page.get_by_label("weight, slider").bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    drag(page, [(box["x"] + box["width"] * share, middle) for share in (0.5, 0.9, 0.2, 0.8)])
    weight = float(page.get_by_label("weight", exact=True).input_value())
    assert 6000 < weight < 8500
    expect(page.get_by_label("curl command")).to_contain_text(f'"weight":{weight:g}')
    expected = predicted(server, "cars", json={"instances": [sent(page)]})
    shown = page.locator(".summary strong")
    expect(shown).to_have_text(re.compile(re.escape(f"{expected['value']:.4g}".rstrip("0"))))
    assert max(most) == 1
    # Playing with a model is no traffic that drift should watch.
    assert asked == {"cars?trial=1"}


def test_what_is_wrong_is_said_at_the_field_until_it_is_right(page: Page, server: Server, watch: Watch) -> None:
    watch.expected.append("status of 422")
    visit(page, server, "cars")
    weight = page.get_by_label("weight", exact=True)
    good = weight.input_value()
    weight.fill("99999")
    said = page.locator(".problem:visible")
    expect(said).to_contain_text("must be a number from 500 to 9000 lb. Received: 99999. Check the value and its unit.")
    expect(weight).to_have_attribute("aria-invalid", "true")
    weight.fill("")
    expect(said).to_contain_text("Received: null.")
    weight.fill(good)
    expect(said).to_have_count(0)
    expect(weight).to_have_attribute("aria-invalid", "false")


def test_what_may_be_missing_can_be_left_unknown(page: Page, server: Server) -> None:
    visit(page, server, "churn")
    page.locator(".field", has_text="charges").get_by_label("unknown").check()
    page.get_by_label("contract").select_option(label="unknown")
    page.get_by_label("months", exact=True).fill("7")
    expect(page.get_by_label("curl command")).to_contain_text('"months":7,"charges":null,"contract":null')
    expect(page.locator(".bars li")).to_have_count(2)


def test_what_if_shows_the_answer_over_a_fields_range(page: Page, server: Server) -> None:
    visit(page, server, "cars")
    page.get_by_text("What if").click()
    page.get_by_label("The answer over").select_option("origin")
    drawing = page.get_by_role("img", name=re.compile("mpg over origin: from"))
    expect(drawing.locator(".tick", has_text="europe")).to_be_visible()
    values = [
        predicted(server, "cars", json={"instances": [sent(page) | {"origin": origin}]})["value"]
        for origin in ("usa", "europe", "japan")
    ]
    expect(drawing).to_have_attribute("aria-label", re.compile(re.escape(f"from {min(values):.4g}".rstrip("0"))))


def test_a_chart_has_a_name_before_its_answer_and_shows_what_was_asked_last(page: Page, server: Server) -> None:
    held: list[Route] = []
    visit(page, server, "cars")
    # It asks once more, if it is open, when the record has rested.
    page.evaluate("new Promise((done) => setTimeout(done, 400))")
    page.route("**/predict/**", lambda route: held.append(route))  # noqa: PLW0108 - Playwright takes no built-in
    with page.expect_request("**/predict/**"):
        page.get_by_text("What if").click()
    assert Axe().run(page, options={"runOnly": {"type": "rule", "values": ["svg-img-alt"]}}).violations_count == 0
    with page.expect_request("**/predict/**"):
        page.get_by_label("The answer over").select_option("origin")
    while len(held) < 2:  # The request is told of before its route is.
        page.wait_for_timeout(20)
    first, second = held
    second.continue_()
    expect(page.get_by_role("img", name=re.compile("mpg over origin: from"))).to_be_visible()
    with page.expect_response("**/predict/**") as late:
        first.continue_()
    late.value.finished()
    page.wait_for_timeout(100)
    expect(page.get_by_role("img", name=re.compile("mpg over origin: from"))).to_be_visible()


def test_points_of_a_series_follow_the_pointer_and_the_keys(page: Page, server: Server) -> None:
    visit(page, server, "heat")
    chart = page.get_by_role("slider", name="OT (°C)")
    expect(chart.locator(".band")).to_be_attached()
    before, fan = sent(page), chart.locator(".ahead").get_attribute("d")
    dot = chart.locator(".dot").nth(2).bounding_box()
    assert dot is not None
    x, y = dot["x"] + dot["width"] / 2, dot["y"] + dot["height"] / 2
    drag(page, [(x, y), (x, y - 30)])
    wait_for(lambda: sent(page)[2] > before[2] + 1)
    expect(chart.locator(".ahead")).not_to_have_attribute("d", fan or "")
    after = sent(page)
    assert after[:2] + after[3:] == before[:2] + before[3:]
    chart.press("ArrowRight")
    chart.press("ArrowUp")
    wait_for(lambda: sent(page)[3] > after[3])
    assert "step 4 of 6" in (chart.get_attribute("aria-valuetext") or "")


def test_pasted_numbers_are_a_series_and_what_is_none_is_said(page: Page, server: Server, watch: Watch) -> None:
    visit(page, server, "machine")
    page.get_by_text("The numbers").click()
    numbers = page.get_by_label("oldest first")
    numbers.fill("\n".join(f"{step}\t{100 + step}" for step in range(8)))
    expect(page.get_by_label("curl command")).to_contain_text("[[2,102],[3,103],[4,104],[5,105],[6,106],[7,107]]")
    expected = predicted(server, "machine", json={"instances": [sent(page)]})
    expect(summary(page)).to_contain_text(expected["label"])
    numbers.fill("1 2\n3 x")
    problem = page.locator(".problem:visible")
    expect(problem).to_contain_text("Line 2: must be numbers. Received: x.")
    watch.expected.append("status of 422")
    numbers.fill("1 2\n3 4")
    expect(problem).to_contain_text("must hold at least 6 steps of PT1M, oldest first. Received: 2 steps.")
    page.get_by_label("Begin with").select_option("a jump at the end")
    expect(problem).to_have_count(0)


def test_a_switch_of_version_shows_while_the_page_is_open_and_keeps_what_was_entered(
    page: Page, server: Server, tmp_path: Path
) -> None:
    visit(page, server, "cars")
    page.get_by_label("weight", exact=True).fill("3000")
    before = page.locator(".versions code").first.inner_text()
    store = Store(server.home)
    version = store.add(make_bundle(tmp_path, "cars", CARS, seed=5).path).manifest.version
    assert version != before
    store.set_alias("cars", version, "candidate")
    # Any worker may be asked.
    server.wait_until_followed("cars", store.aliases().revision, "candidate")
    who = page.get_by_label("Ask")
    expect(who).to_be_visible()
    who.select_option("candidate")
    expect(page.get_by_text(f"Version {version} answered")).to_be_visible()
    expect(page.get_by_label("curl command")).to_contain_text("?label=candidate")
    who.select_option("production")
    expect(page.get_by_text(f"Version {before} answered")).to_be_visible()
    store.set_alias("cars", version)
    expect(page.get_by_text(f"version {version} answers now, in the place of {before}")).to_be_visible()
    expect(page.get_by_text(f"Version {version} answered")).to_be_visible()
    expect(page.get_by_label("weight", exact=True)).to_have_value("3000")
    expect(page.locator(".versions")).to_contain_text("1 switched in ten minutes")
    expect(page.locator(".live line.now").first).to_be_attached()


def test_a_worker_that_does_not_know_of_a_switch_yet_is_asked_again(page: Page, server: Server, tmp_path: Path) -> None:
    visit(page, server, "cars")
    lagging = httpx.get(f"{server.url}/models/cars", timeout=30).json()
    page.route("**/models/cars", lambda route: route.fulfill(json=lagging), times=1)
    store = Store(server.home)
    version = store.add(make_bundle(tmp_path, "cars", CARS, seed=6).path).manifest.version
    store.set_alias("cars", version)
    told = f"version {version} answers now, in the place of {lagging['version']}"
    expect(page.get_by_text(told)).to_be_visible()


def test_live_figures_of_both_workers_outlive_a_reload(page: Page, server: Server) -> None:
    # Connections of their own, so that both workers get some.
    instances = {"instances": [{"weight": 3000, "horsepower": 90, "origin": "usa"}]}
    for _ in range(40):
        predicted(server, "cars", json=instances)
    # Told when the slot is over; the rate is rounded.
    wait_for(lambda: 2 * sum(live(server, "cars")["requests_per_s"]) > 39)
    visit(page, server, "clothes")
    page.get_by_role("link", name="cars").click()
    rate = page.locator(".small", has_text="Requests a second")
    expect(rate).to_contain_text("highest")
    expect(rate.locator("path.trace-0")).to_have_attribute("d", re.compile("L"))
    page.reload()
    expect(rate).to_contain_text("highest")
    expect(page.locator("#state")).to_have_text(re.compile(r"5 models, .* requests/s"))


def test_a_server_that_is_gone_is_said_and_found_again(page: Page, server: Server, watch: Watch) -> None:
    watch.expected.append("ERR_FAILED")
    page.route("**/live.json*", lambda route: route.abort())
    page.goto(f"{server.url}/#/cars")
    expect(page.locator("#state")).to_contain_text("No connection")
    page.unroute("**/live.json*")
    expect(page.locator("#state")).to_contain_text("5 models")
    page.locator(".summary strong").wait_for()


def test_a_key_is_asked_for_kept_in_the_tab_alone_and_never_shown(
    context: BrowserContext, locked_server: Server
) -> None:
    watch = Watch(locked_server.url, expected=["status of 401"])
    watch_pages(context, watch)
    page = context.new_page()
    page.goto(locked_server.url)
    key = page.get_by_label("API key", exact=True)
    expect(page.get_by_role("region", name="An API key, please")).to_contain_text("forgotten when you close the tab")
    key.fill("a-wrong-key-of-some-length")
    key.press("Enter")
    expect(page.locator(".problem:visible")).to_contain_text("This route needs an API key")
    key.fill(KEY)
    key.press("Enter")
    page.locator(".summary strong").wait_for()
    expect(key).to_be_hidden()
    assert '"X-API-Key: $API_KEY"' in curl(page)
    assert KEY not in page.content() + page.url
    assert page.evaluate("Object.values(localStorage).join() + document.cookie") == ""
    page.reload()
    page.locator(".summary strong").wait_for()
    assert watch.wrong == []


def test_nothing_serious_stands_in_anybodys_way_in_light_and_dark(page: Page, server: Server) -> None:
    only_colours = {"resultTypes": ["violations"], "runOnly": {"type": "rule", "values": ["color-contrast"]}}
    found = {}
    for model in TASKS:
        visit(page, server, model)
        page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        page.emulate_media(color_scheme="light")
        results = Axe().run(page).response["violations"]
        page.emulate_media(color_scheme="dark")
        results += Axe().run(page, options=only_colours).response["violations"]
        for violation in results:
            if violation["impact"] in ("serious", "critical"):
                found[f"{model}: {violation['id']}"] = [node["html"][:200] for node in violation["nodes"]]
    assert found == {}


def test_the_page_fits_a_phone(page: Page, server: Server) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    for model in TASKS:
        visit(page, server, model)
        page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        assert page.evaluate("document.documentElement.scrollWidth") == 360, model


def test_the_theme_is_kept_and_the_system_decides_until_one_is_chosen(page: Page, server: Server) -> None:
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    visit(page, server, "clothes")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    button = page.get_by_role("button", name="Theme")
    button.click()
    expect(button).to_have_text("Theme: light")
    light = page.evaluate(ground)
    assert light != dark
    page.reload()
    expect(button).to_have_text("Theme: light")
    assert page.evaluate(ground) == light
    page.locator(".summary strong").wait_for()
    motion = "getComputedStyle(document.querySelector('.bars .bar')).transitionDuration"
    assert page.evaluate(motion) == "0s"


def test_the_keyboard_leads_to_the_model_and_between_models(page: Page, server: Server) -> None:
    visit(page, server, "clothes")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the model")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    link = page.get_by_role("link", name="heat")
    link.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=2)).to_contain_text("heat")
    expect(link).to_have_attribute("aria-current", "page")


def test_a_picture_of_another_kind_is_converted_by_the_browser_and_said_to_be(page: Page, server: Server) -> None:
    file = io.BytesIO()
    Image.new("RGB", (40, 50), "navy").save(file, "GIF")
    visit(page, server, "clothes")
    example = curl(page)
    given = {"name": "a.gif", "mimeType": "image/gif", "buffer": file.getvalue()}
    page.get_by_label("Choose a picture").set_input_files(given)
    expect(page.get_by_text("a.gif, converted to PNG by this browser")).to_be_visible()
    expect(page.get_by_label("curl command")).not_to_have_text(example)
    expect(page.locator(".problem:visible")).to_have_count(0)
    assert run_curl(curl(page))["label"] in IMAGE.labels
