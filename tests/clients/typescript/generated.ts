// Uses openapi-fetch with the generated types as a caller does; test_generated_clients runs it.
import { deepEqual, equal } from "node:assert/strict";
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Schemas = components["schemas"];

const [url, word] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl: url!, headers: { "X-API-Key": "secret" } });
const withKey = () => ({ header: { "Idempotency-Key": crypto.randomUUID() } });

const params = withKey();
const body = { name: `${word} one` };
const { data: created } = await client.POST("/api/v1/portfolios", { params, body });
const again = await client.POST("/api/v1/portfolios", { params, body });
deepEqual(again.data, created);
const path = { portfolio_id: created!.portfolioId };
const bulk = await client.POST("/api/v2/portfolios", {
  params: withKey(),
  body: [{ name: `${word} two` }, { name: `${word} three` }],
});
equal(bulk.data!.length, 2);

const { data: found } = await client.GET("/api/v1/portfolio/{portfolio_id}", { params: { path } });
deepEqual(found, created);
const missing = await client.GET("/api/v1/portfolio/{portfolio_id}", {
  params: { path: { portfolio_id: "nonsense" } },
});
equal(missing.error!.code, "not_found" satisfies Schemas["ErrorCode"]);

const change = { ...created!, name: `${word} new` };
const put = () =>
  client.PUT("/api/v1/portfolio/{portfolio_id}", { params: { path }, body: change });
const { data: updated } = await put();
deepEqual(updated, { ...change, version: 2 } satisfies Schemas["Portfolio"]);
equal((await put()).error!.code, "version_conflict");

const names: string[] = [];
for (let cursor: string | null = ""; cursor !== null; ) {
  const query = { name_like: word!, limit: 2, cursor };
  const { data } = await client.GET("/api/v2/portfolios", { params: { query } });
  const page = data as Schemas["PortfolioPage"];
  names.push(...page.portfolios.map((portfolio) => portfolio.name));
  cursor = (page.pagination as Schemas["CursorPagination"]).nextCursor;
}
deepEqual(names.sort(), [`${word} new`, `${word} three`, `${word} two`]);

const { data } = await client.POST("/api/v2/portfolios/resolve", {
  body: { ids: [path.portfolio_id, "nonsense"], names: [`${word} TWO`] },
});
const resolved = data as Schemas["PortfolioResolution"];
deepEqual(resolved.portfolios.map((portfolio) => portfolio.name), [`${word} new`, `${word} two`]);
deepEqual(resolved.missing.ids, ["nonsense"]);

const deleted = await client.DELETE("/api/v1/portfolio/{portfolio_id}", {
  params: { path, query: { version: 2 } },
});
equal(deleted.response.status, 204);
