// Opens the rendered report in headless Chromium and uses it as a person would, and profiles in the viewers it names.
//
//   node tests/browser/run.mjs [--install] [--pages FOLDER]
//
// Pages come from the fixture in xtask/src/render/page/fixture.rs and from profiles/reference. `--install` gets the
// packages first, if there is a Chromium to use them. `--pages` opens pages that were rendered already. Without Chromium or its packages the tests are skipped with a line that
// says so; where CI is set that is a failure. The same holds for Valgrind's viewer and its tests.
import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));

function chromium() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  for (const folder of (process.env.PATH ?? "").split(delimiter)) {
    for (const name of ["chromium", "chromium-browser", "google-chrome"]) {
      try {
        accessSync(join(folder, name), constants.X_OK);
        return join(folder, name);
      } catch {
        // Not here.
      }
    }
  }
  return null;
}

function skip(why) {
  console.log(`browser tests skipped: ${why}`);
  process.exit(process.env.CI ? 1 : 0);
}

const executablePath = chromium();
if (!executablePath) skip("no Chromium on PATH (Debian: apt-get install chromium)");
if (process.argv.includes("--install")) {
  // If that fails, the packages are missing below; without a network npm's own cache may hold them.
  const flags = ["--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund"];
  spawnSync("npm", ["ci", "--prefix", here, ...flags], { stdio: "inherit" });
}
if (!["axe-core", "playwright-core", "speedscope"].every((name) => existsSync(join(here, "node_modules", name)))) {
  skip("no packages (npm ci --prefix tests/browser)");
}

function rendered() {
  const given = process.argv.indexOf("--pages");
  if (given > 0) return process.argv[given + 1];
  const folder = mkdtempSync(join(tmpdir(), "alloc-ladder-pages-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  const build = ["test", "--quiet", "--package", "cargo-alloc-ladder", "--lib"];
  const one = ["--", "--ignored", "--exact", "render::page::tests::pages_for_the_browser"];
  const env = { ...process.env, ALLOC_LADDER_PAGES: folder };
  const made = spawnSync("cargo", [...build, ...one], { cwd: join(here, "..", ".."), env, encoding: "utf8" });
  if (made.status !== 0) console.error(made.stdout, made.stderr);
  return folder;
}

const pages = rendered();
if (!existsSync(join(pages, "put.html"))) {
  console.error("the fixture's pages could not be rendered");
  process.exit(1);
}

process.env.REPORT_PAGES = pathToFileURL(pages).href;
process.env.REPORT_CHROMIUM = executablePath;
const files = ["report.test.mjs", "readers.test.mjs"].map((name) => join(here, name));
const run = spawnSync(process.execPath, ["--test", "--test-reporter=spec", ...files], { stdio: "inherit" });
process.exitCode = run.status ?? 1;
