// How the board is served: to whom, under which policy, at which address, described by what.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { createServer } from "node:net";
import { get as httpsGet } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { PROGRAM, board, end, freePort, launch, open, store, until } from "./harness.mjs";

let browser;
before(async () => (browser = await launch()));
after(() => browser.close());

test("beyond this machine a token or TLS is needed, and a token lets in once it was shown", async (t) => {
  const path = store("one");
  const refused = spawnSync(PROGRAM, ["board", "--replica", `sqlite:${path}`, "--listen", "0.0.0.0:0"], { encoding: "utf8" });
  assert.notEqual(refused.status, 0);
  assert.match(refused.stderr, /expected a token or TLS/);
  const server = await board(path, { args: ["--token", "s3cret"] });
  t.after(() => server.stop());
  assert.equal((await fetch(`${server.url}/api/v1/totals`)).status, 401);
  assert.equal((await fetch(`${server.url}/?token=wrong`)).status, 401);
  const headers = { authorization: "Bearer s3cret" };
  await until("an answer", async () => (await fetch(`${server.url}/api/v1/totals`, { headers })).status === 200);
  const { page, context, wrong } = await open(browser, server.url, { query: { token: "s3cret" } });
  await page.locator("#ranking li").first().waitFor();
  assert.ok(!page.url().includes("s3cret"));
  await context.close();
  assert.deepEqual(wrong, []);
});

test("with a certificate the board speaks HTTPS", async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "windlass-tls-"));
  const [key, cert] = [join(dir, "key.pem"), join(dir, "cert.pem")];
  const made = spawnSync("openssl", ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost"]);
  assert.equal(made.status, 0);
  const port = await freePort();
  const child = spawn(PROGRAM, ["board", "--replica", `sqlite:${store("one")}`, "--listen", `127.0.0.1:${port}`, "--tls-cert", cert, "--tls-key", key, "--log", "warn"], { stdio: ["ignore", "ignore", "inherit"] });
  t.after(() => end(child));
  const ask = () => new Promise((resolve) => httpsGet({ host: "127.0.0.1", port, path: "/healthz", rejectUnauthorized: false }, (response) => resolve(response.statusCode)).on("error", () => resolve(null)));
  await until("HTTPS", async () => (await ask()) === 200);
});

test("the policy lets the page's own files run and nothing else", async (t) => {
  const server = await board(store("one"));
  t.after(() => server.stop());
  for (const path of ["/", "/api/v1/totals", "/nowhere"]) {
    const { headers } = await fetch(server.url + path);
    const policy = headers.get("content-security-policy");
    assert.match(policy, /^default-src 'none'; script-src 'self'; style-src 'self';/, path);
    assert.doesNotMatch(policy, /unsafe|https?:|\*/, path);
    assert.equal(headers.get("x-content-type-options"), "nosniff", path);
  }
  const { page, context } = await open(browser, server.url);
  await page.locator("#ranking li").first().waitFor();
  const ran = await page.evaluate(async () => {
    const script = document.createElement("script");
    script.textContent = "window.ran = true";
    document.body.append(script);
    const asked = await fetch("http://127.0.0.1:9/").then(() => "asked", () => "refused");
    return [window.ran === true, asked];
  });
  assert.deepEqual(ran, [false, "refused"]);
  await context.close();
});

test("every call that is described answers as described", async (t) => {
  const server = await board(store("one"));
  t.after(() => server.stop());
  await until("the first totals", async () => (await fetch(`${server.url}/api/v1/totals`)).status === 200);
  const description = await (await fetch(`${server.url}/openapi.json`)).json();
  for (const [path, { get: call }] of Object.entries(description.paths)) {
    const query = path.endsWith("/gmv") ? "?from=0&to=1000&step=hour" : "";
    const answer = await fetch(server.url + path + query);
    assert.equal(answer.status, 200, path);
    const [type] = answer.headers.get("content-type").split(";");
    assert.ok(call.responses["200"].content[type], `${path}: ${type}`);
    await answer.body.cancel();
  }
  for (const bad of ["", "?from=0", "?from=yesterday&to=0", "?from=0&to=1&step=day", "?from=0&to=1&colour=red"]) {
    const answer = await fetch(`${server.url}/api/v1/gmv${bad}`);
    assert.equal(answer.status, 400, bad);
    assert.ok((await answer.json()).error.length > 10, bad);
  }
});

test("the demo opens its board on the next free port, and none if told so", async (t) => {
  const taken = createServer();
  await new Promise((resolve) => taken.once("error", resolve).listen(8080, "127.0.0.1", resolve));
  t.after(() => taken.close());
  const demo = (...args) => spawnSync(PROGRAM, ["demo", "--rate", "200", "--for", "1s", ...args], { encoding: "utf8" });
  const port = /the big screen: http:\/\/127\.0\.0\.1:(\d+)\//.exec(demo().stdout)?.[1];
  assert.ok(Number(port) > 8080 && Number(port) < 8100, `port ${port}`);
  assert.doesNotMatch(demo("--no-board").stdout, /the big screen/);
});
