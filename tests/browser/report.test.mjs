// Started by run.mjs, which renders the pages and finds the browser.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, describe, test } from "node:test";

import { launch } from "./browser.mjs";

const PAGES = process.env.REPORT_PAGES;
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const DESKTOP = { width: 1280, height: 900 };
const PHONE = { width: 390, height: 844 };
const STEPS = 10;

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser?.close());

// Opens a page, lets `use` work with it, then asks for silence: no error, no console output, no request but the page's.
async function open(name, use, { hash = "", ...context } = {}) {
  const opened = await browser.newContext({ viewport: DESKTOP, ...context });
  const page = await opened.newPage();
  const noise = [];
  const address = `${PAGES}/${name}.html`;
  page.on("console", (message) => noise.push(`console ${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => noise.push(`error: ${error.message}`));
  page.on("dialog", (dialog) => noise.push(`dialog: ${dialog.message()}`));
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith("data:") && url.split("#")[0] !== address) noise.push(`request: ${url}`);
  });
  await page.goto(address + hash);
  try {
    await use(page, noise);
  } finally {
    await opened.close();
  }
  assert.deepEqual(noise, []);
}

const step = (page) => page.locator(".step.current").getAttribute("id");
const pressed = (page, choice) =>
  page.locator(`[data-choice="${choice}"][aria-pressed="true"]`).getAttribute("data-value");
const choose = (page, choice, value) => page.click(`[data-choice="${choice}"][data-value="${value}"]`);
const bars = (page) => page.locator("#canvas rect").count();
const frames = (page) => page.evaluate(() => [...document.querySelectorAll("#canvas text")].map((text) => text.textContent));
const hash = (page) => page.evaluate(() => Object.fromEntries(new URLSearchParams(location.hash.slice(1))));
const width = (page) => page.evaluate(() => document.querySelector("#canvas svg").getBoundingClientRect().width);

describe("a recording", () => {
  const LINE = "prost-0.14.1/src/encoding.rs:87";
  const copied = async (page, line) => {
    await page.waitForFunction((words) => document.querySelector("#announce").textContent === words, `Copied ${line}`);
    return page.evaluate(() => navigator.clipboard.readText());
  };

  test("a button copies a line of source, by mouse and by keyboard", () =>
    open("recorded", async (page) => {
      const button = page.locator(`.sites button[aria-label="Copy ${LINE}"]`).last();
      await button.click();
      assert.equal(await copied(page, LINE), LINE);
      await page.locator('.sites button[aria-label="Copy src/keep.rs:77"]').last().focus();
      await page.keyboard.press("Enter");
      assert.equal(await copied(page, "src/keep.rs:77"), "src/keep.rs:77");
      assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-label")), "Copy src/keep.rs:77");
    }, { permissions: ["clipboard-read", "clipboard-write"] }));

  test("where the browser keeps its clipboard, a selection is copied", () =>
    open("recorded", async (page) => {
      await page.evaluate(() => Object.defineProperty(navigator, "clipboard", { value: undefined }));
      await page.evaluate(() => {
        window.copied = "";
        document.addEventListener("copy", (event) => (window.copied = event.target.value));
      });
      await page.locator('.sites button[aria-label="Copy src/keep.rs:77"]').last().click();
      await page.waitForFunction(() => window.copied === "src/keep.rs:77");
      assert.equal(await page.locator("textarea").count(), 0);
    }));

  test("without a script there are the lines and no button", () =>
    open("recorded", async (page) => {
      assert.ok((await page.locator(".place").count()) > 0);
      assert.equal(await page.locator(".copy").count(), 0);
    }, { javaScriptEnabled: false }));

  test("a page opens at its top, and one step is not stepped through", () =>
    open("recorded", async (page) => {
      // The graph stands at the end of the page before it is moved into its step: a short page is in view there.
      assert.equal(await page.evaluate(() => scrollY), 0);
      assert.equal(await page.isVisible(".stepper"), false);
      assert.equal(await page.isVisible('[data-value="diff"]'), false);
    }, { viewport: { width: 1280, height: 1600 } }));

  test("the timeline names its peak and its figures in words", () =>
    open("recorded", async (page) => {
      const label = await page.locator("svg.timeline").getAttribute("aria-label");
      assert.match(label, /peak 2\.32\sMiB at 7\.3 s/);
      assert.match(label, /resident at most 12\.4\sMiB/);
    }));
});

describe("one step at a time", () => {
  test("the arrows, the numbers and the ladder's rows lead to a step", () =>
    open("put", async (page) => {
      assert.equal(await step(page), "step-1");
      assert.equal(await page.isDisabled("#previous"), true);
      await page.click("#next");
      assert.equal(await step(page), "step-2");
      await page.click(".stepper li:nth-child(5) a");
      assert.equal(await step(page), "step-5");
      await page.click(".ladder tbody tr:nth-child(10) th a");
      assert.equal(await step(page), "step-10");
      assert.equal(await page.isDisabled("#next"), true);
      assert.equal(await page.locator(".step:visible").count(), 1);
      assert.equal(await page.locator('.stepper a[aria-current="step"]').count(), 1);
      assert.match(await page.textContent("#announce"), /Step 10 of 10/);
      await page.goBack();
      assert.equal(await step(page), "step-5");
      await page.click("#previous");
      assert.equal(await step(page), "step-4");
    }));

  test("Back leads through every step to the first, whose address says nothing", () =>
    open("put", async (page) => {
      await page.keyboard.press("ArrowRight");
      await page.keyboard.press("ArrowRight");
      await page.keyboard.press("b");
      await page.fill("#search", "Bytes");
      await page.goBack();
      assert.equal(await step(page), "step-2");
      assert.equal(await pressed(page, "unit"), "bytes");
      assert.equal(await page.inputValue("#search"), "");
      await page.goBack();
      assert.equal(await step(page), "step-1");
      await page.goForward();
      await page.goForward();
      assert.equal(await step(page), "step-3");
      assert.equal(await pressed(page, "unit"), "blocks");
      assert.equal(await page.inputValue("#search"), "Bytes");
    }));

  test("the skip link leads to the steps and leaves the step alone", () =>
    open("put", async (page) => {
      await page.keyboard.press("ArrowRight");
      await page.focus("#skip");
      await page.keyboard.press("Enter");
      assert.equal(await step(page), "step-2");
      assert.equal(await page.evaluate(() => document.activeElement.id), "steps");
    }));

  test("every key of the help does what it says", () =>
    open("put", async (page) => {
      await page.keyboard.press("ArrowLeft");
      assert.equal(await step(page), "step-1");
      for (let i = 0; i < STEPS + 2; i++) await page.keyboard.press("ArrowRight");
      assert.equal(await step(page), `step-${STEPS}`);
      await page.keyboard.press("ArrowLeft");
      assert.equal(await step(page), `step-${STEPS - 1}`);
      await page.keyboard.press("s");
      assert.equal(await pressed(page, "side"), "client");
      await page.keyboard.press("b");
      assert.equal(await pressed(page, "unit"), "blocks");
      await page.keyboard.press("d");
      assert.equal(await pressed(page, "mode"), "diff");
      await page.keyboard.press("d");
      const scale = await pressed(page, "scale");
      await page.keyboard.press("f");
      assert.notEqual(await pressed(page, "scale"), scale);
      await page.keyboard.press("?");
      assert.equal(await page.isVisible("#help"), true);
      await page.keyboard.press("ArrowLeft");
      assert.equal(await step(page), `step-${STEPS - 1}`, "the page stays while the keys are shown");
      await page.keyboard.press("Escape");
      assert.equal(await page.isVisible("#help"), false);
      await page.keyboard.press("/");
      await page.keyboard.type("hyper|sbd?");
      assert.equal(await page.inputValue("#search"), "hyper|sbd?", "letters in the search are letters");
      assert.equal(await pressed(page, "side"), "client");
      await page.keyboard.press("Escape");
      assert.equal(await page.inputValue("#search"), "");
    }));

  test("keys with a modifier stay the browser's", () =>
    open("put", async (page) => {
      await page.keyboard.press("Control+ArrowRight");
      await page.keyboard.press("Alt+s");
      assert.equal(await step(page), "step-1");
      assert.equal(await pressed(page, "side"), "server");
    }));

  test("whoever looks at the graph keeps it in place while stepping", () =>
    open("put", async (page) => {
      await page.locator("#canvas").scrollIntoViewIfNeeded();
      const top = () => page.evaluate(() => document.querySelector(".graph").getBoundingClientRect().top);
      const earlier = await top();
      await page.keyboard.press("ArrowRight");
      assert.ok(Math.abs((await top()) - earlier) < 2);
    }));
});

describe("deep links", () => {
  test("a link restores everything it names", () =>
    open("put", async (page) => {
      assert.equal(await step(page), "step-4");
      assert.equal(await pressed(page, "side"), "client");
      assert.equal(await pressed(page, "unit"), "blocks");
      assert.equal(await pressed(page, "mode"), "diff");
      assert.equal(await pressed(page, "scale"), "fill");
      assert.equal(await page.inputValue("#search"), "Bytes");
      assert.match(await page.textContent("#found"), /% in \d+ frame/);
    }, { hash: "#step=tuned-h2&side=client&unit=blocks&mode=diff&scale=fill&search=Bytes" }));

  test("what is set is in the address, and the address brings it back", () =>
    open("put", async (page) => {
      await page.keyboard.press("ArrowRight");
      await page.keyboard.press("s");
      await page.keyboard.press("b");
      assert.deepEqual(await hash(page), { step: "pooled-message", side: "client", unit: "blocks" });
      await page.reload();
      assert.equal(await step(page), "step-2");
      assert.equal(await pressed(page, "unit"), "blocks");
    }));

  test("a zoom is in the address too", () =>
    open("put", async (page) => {
      await page.locator("#canvas rect").nth(3).click();
      const zoomed = await frames(page);
      assert.match((await hash(page)).zoom, /^\d+(\.\d+)*$/);
      await page.reload();
      assert.deepEqual(await frames(page), zoomed);
      await page.keyboard.press("Escape");
      assert.equal((await hash(page)).zoom, undefined);
    }));

  for (const [link, expected] of [
    ["#step-3", "step-3"], ["#step=7", "step-7"], ["#step=no-such-step", "step-1"], ["#step=99&side=both", "step-1"],
    ["#search=(", "step-1"], ["#%E0%A4%A", "step-1"], ["#step=rope&zoom=1.x.99999", "step-5"],
  ]) {
    test(`${link} leads to ${expected}`, () => open("put", async (page) => assert.equal(await step(page), expected), { hash: link }));
  }
});

describe("the flame graph", () => {
  test("each control draws another graph", () =>
    open("put", async (page) => {
      await page.keyboard.press("ArrowRight");
      const server = await frames(page);
      await choose(page, "side", "client");
      assert.notDeepEqual(await frames(page), server);
      assert.equal(await page.isVisible(".step.current .of-client"), true);
      assert.equal(await page.isVisible(".step.current .of-server"), false);
      await choose(page, "side", "server");
      const box = () => page.locator("#canvas rect").nth(3).getAttribute("width");
      const bytes = await box();
      await choose(page, "unit", "blocks");
      assert.notEqual(await box(), bytes);
      await choose(page, "unit", "bytes");
      await choose(page, "mode", "diff");
      assert.ok((await page.locator("#canvas .delta-gone").count()) > 0, "what vanished stays visible");
      assert.equal(await page.isVisible("#diff-legend"), true);
      await choose(page, "mode", "this");
      const narrow = await width(page);
      await choose(page, "scale", "fill");
      assert.ok((await width(page)) > narrow);
    }));

  test("the baseline has no difference, and the choice waits for the next step", () =>
    open("put", async (page) => {
      assert.equal(await page.isDisabled('[data-value="diff"]'), true);
      await page.keyboard.press("d");
      assert.equal(await pressed(page, "mode"), "this");
      await page.keyboard.press("ArrowRight");
      assert.equal(await pressed(page, "mode"), "diff");
    }));

  test("true scale leaves what the step saved empty; far below the baseline a strip keeps the scale", () =>
    open("put", async (page) => {
      await page.keyboard.press("ArrowRight");
      assert.match(await page.textContent("#canvas .saved"), /less than Baseline/);
      assert.equal(await page.isVisible("#strip"), false);
      await page.click(".stepper li:nth-child(6) a");
      assert.equal(await page.isVisible("#strip"), true);
      assert.equal(await pressed(page, "scale"), "fill");
      await choose(page, "scale", "true");
      assert.equal(await page.isVisible("#strip"), false);
      assert.ok((await width(page)) < 20);
    }));

  test("a difference far below the baseline is magnified under the strip as well", () =>
    open("put", async (page) => {
      assert.equal(await pressed(page, "mode"), "diff");
      assert.equal(await pressed(page, "scale"), "fill");
      assert.match(await page.textContent("#strip"), /^99\.9\d?\d?\s% less than Baseline/);
      await choose(page, "scale", "true");
      assert.equal(await page.isVisible("#strip"), false);
      assert.ok((await width(page)) < 20);
    }, { hash: "#step=core-runtime&mode=diff" }));

  test("what a difference says of the baseline is the step's own figure, not the wider one that is drawn", () =>
    open("put", async (page) => {
      // The step takes away two fifths, and its difference is as wide as what was there before.
      const words = page.locator("#canvas .saved");
      await page.keyboard.press("ArrowRight");
      const own = await words.textContent();
      assert.match(own, /^40\s% less than Baseline/);
      await page.keyboard.press("d");
      assert.equal(await words.count(), 0, "before and after together are as wide as the baseline");
      await page.click(".stepper li:nth-child(4) a");
      assert.match(await words.textContent(), /^55\s% less than Baseline/);
      const drawn = (await width(page)) / (await page.evaluate(() => document.querySelector("#canvas").clientWidth));
      assert.ok(drawn > 0.55 && drawn < 0.65, `${drawn}`);
    }));

  test("what grew above the baseline says by how much, and how wide the baseline was", () =>
    open("grown", async (page) => {
      assert.equal(await page.isVisible("#strip"), false);
      await page.keyboard.press("ArrowRight");
      assert.match(await page.textContent("#strip"), /^50\.0\s% more than Baseline/);
      const share = await page.evaluate(() => {
        const [was, scale] = ["#strip .was", "#strip .scale"].map((name) => document.querySelector(name).getBoundingClientRect().width);
        return was / scale;
      });
      assert.ok(Math.abs(share - 2 / 3) < 0.01, `${share}`);
      await page.keyboard.press("d");
      assert.match(await page.textContent("#strip"), /more than Baseline/);
    }));

  test("a click zooms, steps keep it, Esc leaves it", () =>
    open("put", async (page) => {
      const all = await bars(page);
      await page.locator("#canvas rect").nth(3).click();
      assert.ok((await bars(page)) < all);
      assert.equal(await page.isVisible("#zoom-out"), true);
      const zoomed = (await frames(page))[1];
      await page.keyboard.press("ArrowRight");
      assert.equal((await frames(page))[1], zoomed);
      await page.keyboard.press("Escape");
      assert.equal(await page.isVisible("#zoom-out"), false);
      await page.keyboard.press("ArrowLeft");
      assert.equal(await bars(page), all);
      await page.locator("#canvas rect").nth(3).click();
      await page.click("#zoom-out");
      assert.equal(await page.isVisible("#zoom-out"), false);
      assert.equal(await bars(page), all);
      assert.equal(await page.evaluate(() => document.activeElement.id), "canvas");
    }));

  test("a frame that the step removed is said to be gone from under the zoom", () =>
    open("put", async (page) => {
      await page.locator("#canvas rect", { has: page.locator("xpath=self::*[contains(@class,'stage-message-construction')]") }).first().click();
      await page.keyboard.press("ArrowRight");
      assert.match(await page.textContent("#lost"), /allocates nothing in this step/);
      await page.keyboard.press("ArrowLeft");
      assert.equal(await page.isVisible("#zoom-out"), true);
    }));

  test("keys walk the frames and say their figures", () =>
    open("put", async (page) => {
      await page.focus("#canvas");
      assert.match(await page.textContent("#spoken"), /all$/);
      await page.keyboard.press("ArrowDown");
      const first = await page.textContent("#spoken");
      assert.match(first, /KiB per message .*\s% of this step/);
      await page.keyboard.press("Shift+ArrowRight");
      assert.notEqual(await page.textContent("#spoken"), first);
      await page.keyboard.press("Shift+ArrowLeft");
      assert.equal(await page.textContent("#spoken"), first);
      await page.keyboard.press("Enter");
      assert.equal(await page.isVisible("#zoom-out"), true);
      await page.keyboard.press("ArrowUp");
      assert.match(await page.textContent("#spoken"), /all$/);
      assert.equal(await step(page), "step-1");
    }));

  test("keys stay on their frame when the graph is drawn anew", () =>
    open("put", async (page) => {
      await page.focus("#canvas");
      for (let i = 0; i < 4; i++) await page.keyboard.press("ArrowDown");
      const name = () => page.locator("#detail b").textContent();
      const frame = await name();
      for (const key of ["b", "ArrowRight", "d", "f"]) {
        await page.keyboard.press(key);
        assert.equal(await page.evaluate(() => document.activeElement.id), "canvas", key);
        assert.equal(await name(), frame, key);
        assert.equal(await page.locator("#canvas .focused").count(), 1, key);
      }
      await page.keyboard.press("ArrowUp");
      assert.notEqual(await name(), frame, "and keys still move it");
      await page.setViewportSize({ width: 1000, height: 800 });
      await page.waitForFunction(() => document.querySelector("#canvas svg").clientWidth < 1000);
      assert.equal(await page.locator("#canvas .focused").count(), 1, "a window of another size");
    }));

  test("hovering shows a frame's figures", () =>
    open("put", async (page) => {
      await page.locator("#canvas rect").nth(4).hover();
      assert.match(await page.textContent("#detail"), /per message/);
    }));

  test("a search marks frames and adds up their share", () =>
    open("put", async (page) => {
      await page.fill("#search", "reserve_inner$");
      assert.match(await page.textContent("#found"), /^\d+\.\d\s% in \d+ frames?$/);
      assert.ok((await page.locator("#canvas .hit").count()) > 0);
      assert.ok((await page.locator("#canvas .miss").count()) > 0);
      await page.fill("#search", ".");
      assert.match(await page.textContent("#found"), /^100\s% in/);
      await page.fill("#search", "no such frame");
      assert.match(await page.textContent("#found"), /^0\s% in 0 frames$/);
      await page.fill("#search", "(");
      assert.match(await page.textContent("#found"), /not a regular expression/);
      assert.equal(await page.getAttribute("#search", "aria-invalid"), "true");
      await choose(page, "unit", "blocks");
      assert.match(await page.textContent("#found"), /not a regular expression/, "drawn anew it still is none");
      assert.equal(await page.getAttribute("#search", "aria-invalid"), "true");
      await page.fill("#search", "");
      assert.equal(await page.getAttribute("#search", "aria-invalid"), null);
      assert.equal(await page.locator("#canvas .miss").count(), 0);
    }));

  // How long that takes is the machine's; how much is drawn is not.
  test("a key draws a graph of 2,000 sites once", () =>
    open("wide", async (page) => {
      assert.ok((await bars(page)) > 500);
      assert.match(await page.textContent("#detail"), /^Hover or focus/);
      await page.keyboard.press("ArrowRight");
      // How many bars a key puts into the graph.
      const press = (key) => page.evaluate((key) => {
        const observer = new MutationObserver(() => {});
        observer.observe(document.querySelector("#canvas"), { childList: true, subtree: true });
        document.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
        const nodes = observer.takeRecords().flatMap((record) => [...record.addedNodes]);
        observer.disconnect();
        const here = nodes.filter((node) => node.nodeType === Node.ELEMENT_NODE);
        return here.reduce((sum, node) => sum + node.matches("rect") + node.querySelectorAll("rect").length, 0);
      }, key);
      for (const key of ["b", "b", "ArrowLeft", "ArrowRight", "d", "d", "s", "s", "f", "f"]) {
        assert.equal(await press(key), await bars(page), key);
      }
    }));
});

describe("what was not measured", () => {
  test("is said, and no figure stands in for it", () =>
    open("bare", async (page) => {
      assert.match(await page.textContent(".notice"), /Partial run/);
      assert.match(await page.textContent("#canvas"), /Not measured/);
      await page.keyboard.press("s");
      const client = await page.locator(".step.current .metrics").nth(1).textContent();
      assert.match(client, /not measured/);
      assert.doesNotMatch(client, /\d/);
    }));

  test("is told apart from what is gone", () =>
    open("hostile", async (page) => {
      await page.keyboard.press("s");
      assert.match(await page.textContent("#canvas"), /Not measured/);
      await page.keyboard.press("ArrowRight");
      await page.fill("#search", ".");
      assert.match(await page.textContent("#found"), /^100\s% in/);
      await page.keyboard.press("Tab");
      await page.click("#next");
      assert.match(await page.textContent("#canvas"), /Nothing is allocated here any more/);
      assert.equal(await page.textContent("#found"), "", "no share of nothing");
      await page.click("#previous");
      await page.click("#previous");
      assert.match(await page.textContent("#canvas"), /Not measured/);
      assert.equal(await page.textContent("#found"), "", "no share of what was not measured");
    }));
});

describe("a unary run", () => {
  test("shows calls, latency and the nine stages of one", () =>
    open("unary", async (page) => {
      const cards = (await page.locator(".cards h2").allTextContents()).map((text) => text.toLowerCase());
      assert.deepEqual(cards, ["allocations per call", "bytes allocated per call", "cpu per call", "calls per second"]);
      const rows = page.locator(".nine-stages tbody tr");
      assert.equal(await rows.count(), 10, "nine, and what is in none of them");
      const number = (text) => Number(text.replace(/[\u202f ]/g, ""));
      const first = await rows.locator("td:nth-of-type(1)").allTextContents();
      const total = await page.locator(".nine-stages tfoot td").first().textContent();
      const sum = first.reduce((sum, text) => sum + number(text), 0);
      assert.ok(Math.abs(sum - number(total)) < 0.5, `${sum} is not ${total}`);
      for (const label of ["calls per second", "Latency, median", "Latency, 99th percentile"]) {
        const row = page.locator(".step.current .metrics tr", { hasText: new RegExp(label, "i") });
        assert.match(await row.locator("td").first().textContent(), /\d/, label);
      }
      await page.keyboard.press("ArrowRight");
      await page.locator("#canvas rect").nth(3).hover();
      assert.match(await page.textContent("#detail"), /per call/);
      assert.match(await page.textContent(".step.current .trade-off"), /Measured, reallocations per call: server [\d.]+ → [\d.]+/);
    }));
});

describe("names that try to break out", () => {
  test("are text everywhere", () =>
    open("hostile", async (page) => {
      for (let i = 0; i < 3; i++) {
        for (const key of ["b", "d", "b", "d"]) await page.keyboard.press(key);
        await page.keyboard.press("ArrowRight");
      }
      assert.equal(await page.locator("img").count(), 0);
      assert.equal(await page.locator("script").count(), 2);
      assert.match(await page.textContent(".step.current .sites"), /<script>alert\(1\)<\/script>/);
      const schemes = await page.evaluate(() => [...new Set([...document.links].map((link) => link.protocol))]);
      assert.deepEqual(schemes, ["file:"]);
    }));

  test("could not run if they were markup: the policy forbids it", () =>
    open("put", async (page, noise) => {
      const ran = await page.evaluate(() => {
        const script = document.createElement("script");
        script.textContent = "window.ran = true";
        document.body.append(script);
        document.body.insertAdjacentHTML("beforeend", '<img src="data:," alt="" onerror="window.ran = true">');
        return new Promise((resolve) => setTimeout(() => resolve(window.ran === true), 200));
      });
      assert.equal(ran, false);
      assert.ok(noise.length > 0 && noise.every((line) => line.includes("Content Security Policy")), noise.join("\n"));
      noise.length = 0;
    }));
});

describe("for everyone", () => {
  // The page that has every part in both themes on both devices, the others in each theme and on each device once.
  for (const name of ["put", "unary", "grown", "bare", "hostile", "recorded", "scoped"]) {
    for (const [device, viewport] of [["desktop", DESKTOP], ["phone", PHONE]]) {
      const themes = name === "put" ? ["light", "dark"] : device === "desktop" ? ["light"] : ["dark"];
      for (const colorScheme of themes) {
        test(`no axe violation: ${name}, ${colorScheme}, ${device}`, () =>
          open(name, async (page) => {
            await page.evaluate(() => document.querySelectorAll("details").forEach((details) => (details.open = true)));
            const check = async (where, part = "html") => {
              const violations = await page.evaluate(async (part) => {
                const { violations } = await window.axe.run(part, { resultTypes: ["violations"] });
                return violations.map((v) => `${v.id}: ${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160)).join(" | ")}`);
              }, part);
              assert.deepEqual(violations, [], where);
            };
            await page.evaluate(AXE);
            await check("first step");
            await page.keyboard.press("ArrowRight");
            await page.keyboard.press("s");
            await page.keyboard.press("d");
            await check("second step, client, difference");
            await page.click("#help-button");
            await check("keys", "#help");
            await page.click("#help button");
            assert.equal(await page.isVisible("#help"), false);
          }, { colorScheme, viewport }));
      }
    }
  }

  for (const name of ["put", "unary", "grown", "bare", "hostile", "wide", "recorded", "scoped"]) {
    test(`no overflow on a phone: ${name}`, () =>
      open(name, async (page) => {
        await page.evaluate(() => document.querySelectorAll("details").forEach((details) => (details.open = true)));
        const steps = await page.locator(".step").count();
        for (let i = 0; i < steps; i++) {
          for (const key of ["s", "d", "s"]) {
            await page.keyboard.press(key);
            const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
            assert.ok(over <= 0, `step ${i + 1}: ${over} pixels too wide`);
          }
          await page.keyboard.press("ArrowRight");
        }
      }, { viewport: PHONE }));
  }

  test("the theme follows the system until it is chosen, and stays chosen", () =>
    open("put", async (page) => {
      const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      const light = await ground();
      await page.click("#theme-button");
      assert.equal(await ground(), light);
      await page.click("#theme-button");
      const dark = await ground();
      assert.notEqual(dark, light);
      await page.reload();
      assert.equal(await ground(), dark);
      await page.click("#theme-button");
      assert.equal(await ground(), light);
    }));

  test("without JavaScript every step, table and the baseline's graph is there", () =>
    open("put", async (page) => {
      assert.equal(await page.locator(".step:visible").count(), STEPS);
      assert.equal(await page.locator(".sites:visible").count(), STEPS * 2);
      assert.ok((await page.locator("svg.flame rect").count()) > 20);
      assert.equal(await page.locator("button:visible").count(), 0);
    }, { javaScriptEnabled: false }));

  test("on paper every step and both sides are there", () =>
    open("put", async (page) => {
      await page.emulateMedia({ media: "print" });
      assert.equal(await page.locator(".step:visible").count(), STEPS);
      assert.equal(await page.locator(".sites:visible").count(), STEPS * 2);
      assert.equal(await page.locator(".stepper:visible").count(), 0);
      await page.evaluate(() => dispatchEvent(new Event("beforeprint")));
      assert.equal(await page.locator(".printed svg:visible").count() >= STEPS, true, "a graph for every step");
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth), 0);
      await page.evaluate(() => dispatchEvent(new Event("afterprint")));
      assert.equal(await page.locator(".printed").count(), 0);
    }));
});
