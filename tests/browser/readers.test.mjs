// Opens profiles in the viewers that the report names, Valgrind's dh_view.html and speedscope: what they show is what
// the file holds. Started by run.mjs, which finds the browser; on its own:
//
//   REPORT_CHROMIUM=$(which chromium) node --test tests/browser/readers.test.mjs
import assert from "node:assert/strict";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";

import { launch } from "./browser.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const DATA = join(here, "..", "..", "xtask", "tests-data");
const REFERENCE = join(here, "..", "..", "profiles", "reference");
const SPEEDSCOPE = join(here, "node_modules", "speedscope", "dist", "release", "index.html");
const DH_VIEW = ["/usr/libexec/valgrind/dh_view.html", "/usr/lib/valgrind/dh_view.html"].find((file) => existsSync(file));
const NO_DH_VIEW = "no dh_view.html (Debian: apt-get install valgrind)";

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser?.close());

// Opens a viewer without a network, lets `use` work with it, then asks that it neither complained nor asked for
// anything but the files beside it.
async function open(viewer, use, { hash = "" } = {}) {
  const opened = await browser.newContext({ locale: "en-US", offline: true });
  const page = await opened.newPage();
  page.setDefaultTimeout(10_000);
  const noise = [];
  const folder = new URL(".", pathToFileURL(viewer)).href;
  page.on("console", (message) => {
    if (message.type() === "error") noise.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => noise.push(`error: ${error.message}`));
  page.on("dialog", (dialog) => {
    noise.push(`dialog: ${dialog.message()}`);
    return dialog.dismiss();
  });
  page.on("request", (request) => {
    if (!/^(data|blob):/.test(request.url()) && !request.url().startsWith(folder)) noise.push(`request: ${request.url()}`);
  });
  page.on("websocket", (socket) => noise.push(`socket: ${socket.url()}`));
  try {
    await page.goto(pathToFileURL(viewer).href + hash);
    await use(page);
  } catch (error) {
    // What the viewer said is why it did not show what was waited for.
    assert.deepEqual(noise, [], error.message);
    throw error;
  } finally {
    await opened.close();
  }
  assert.deepEqual(noise, []);
}

const number = (text) => Number(text.replaceAll(",", ""));
const sum = (numbers) => [...numbers].reduce((total, value) => total + value, 0);

// The first and the last step of every reference run that has stacks, both sides: as this project's own builds wrote them.
function written() {
  return readdirSync(REFERENCE, { withFileTypes: true }).filter((entry) => entry.isDirectory()).flatMap(({ name: run }) => {
    const steps = readdirSync(join(REFERENCE, run)).filter((name) => /^\d+-/.test(name)).sort();
    return [steps.at(0), steps.at(-1)].filter(Boolean).flatMap((step) => ["server", "client"].map((side) => `${run}/${step}/${side}/dhat.json`));
  });
}

describe("dh_view.html", () => {
  test("has files of this project's to show", () => assert.ok(written().length >= 12, `${written()}`));

  // The other fixtures had their addresses made up, some of them the same; dh_view refuses two points at one place.
  const files = [[DATA, "unary-client.json"], ...written().map((name) => [REFERENCE, name])];
  for (const [folder, name] of files) {
    test(`shows the bytes and blocks of ${name}`, { skip: !DH_VIEW && !process.env.CI && NO_DH_VIEW }, async () => {
      assert.ok(DH_VIEW, NO_DH_VIEW);
      const { pps } = JSON.parse(readFileSync(join(folder, name), "utf8"));
      const expected = { bytes: sum(pps.map((point) => point.tb)), blocks: sum(pps.map((point) => point.tbk)) };
      assert.ok(expected.bytes > 0 && expected.blocks > 0, "the fixture holds something");
      await open(DH_VIEW, async (page) => {
        await page.setInputFiles("input[type=file]", join(folder, name));
        await page.waitForSelector("pre .threshold, .error");
        assert.deepEqual(await page.locator(".error").allTextContents(), []);
        // A file of one point has a root that is a leaf.
        const root = await page.locator("pre > .internal, pre > .leaf").first().textContent();
        assert.match(root, /^[▼─] PP 1\/1 /);
        const [, bytes, blocks] = root.match(/Total: +([\d,]+) bytes \(100%.*?\) in ([\d,]+) blocks \(100%/) ?? [];
        assert.ok(bytes, root);
        assert.deepEqual({ bytes: number(bytes), blocks: number(blocks) }, expected);
      });
    });
  }
});

describe("speedscope", () => {
  for (const name of [
    "put-server.bytes.folded", "put-server.blocks.folded", "get-server.bytes.folded", "unary-client.bytes.folded",
  ]) {
    test(`shows the weights of ${name}`, async () => {
      const expected = new Map();
      for (const line of readFileSync(join(DATA, name), "utf8").trimEnd().split("\n")) {
        const [, stack, weight] = line.match(/^(.+) (\d+)$/);
        const leaf = stack.split(";").at(-1);
        expected.set(leaf, (expected.get(leaf) ?? 0) + Number(weight));
      }
      assert.ok(sum(expected.values()) > 0, "the fixture holds something");
      await open(SPEEDSCOPE, async (page) => {
        await page.setInputFiles("#file", join(DATA, name));
        await page.waitForSelector("td");
        assert.ok((await page.title()).startsWith(`${name} - speedscope`), await page.title());
        // A row per function: total, own weight, name. The heaviest come first, so that what is below the window's
        // edge, which speedscope does not draw, weighs nothing.
        const rows = await page.locator("tr", { has: page.locator("td") }).evaluateAll((rows) =>
          rows.map((row) => [...row.cells].map((cell) => cell.textContent)),
        );
        const weights = rows.map(([, self, frame]) => [frame, number(self.match(/^[\d,]+/)[0])]);
        const own = new Map(weights.filter(([, self]) => self > 0));
        assert.equal(sum(own.values()), sum(expected.values()));
        assert.deepEqual(own, expected);
      }, { hash: "#view=sandwich" });
    });
  }
});
