import assert from "node:assert/strict";
import { test } from "node:test";
import { canonicalJson, parseJson } from "@shelter/base";

test("canonical JSON gives the example of RFC 8785 section 3.2.2", () => {
  const text = String.raw`{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],"string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","literals":[null,true,false]}`;
  assert.equal(
    canonicalJson(parseJson(text, "example")),
    String.raw`{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}`,
  );
});

test("canonical JSON sorts by UTF-16 code units (RFC 8785 section 3.2.3)", () => {
  const value = { "\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\ud83d\ude00": 5, "\u0080": 6, "\u00f6": 7 };
  assert.equal(canonicalJson(value), '{"\\r":2,"1":4,"\u0080":6,"ö":7,"€":1,"😀":5,"\ufb33":3}');
});

test("a key that stands twice is refused wherever it stands, also when written differently", () => {
  for (const text of ['{"a":1,"a":2}', '{"x":[{"b":1},{"a":1,"\\u0061":2}]}', '{"a":{"a":1},"b":2,"a":3}']) {
    assert.throws(() => parseJson(text, "token"), {
      code: "JSON_DUPLICATE_KEY",
      message: 'token has the key "a" twice',
    });
  }
});

test("the same key in sibling and nested objects, and as a value, is no duplicate", () => {
  const text = '[{"a":"a"},{"a":{"a":["a","a"]},"b":"{\\"a\\":1,\\"a\\":2}"}]';
  assert.deepEqual(parseJson(text, "x"), JSON.parse(text));
});

test("deep nesting is refused before anything recurses over it", () => {
  assert.throws(() => parseJson("[".repeat(65) + "]".repeat(65), "x"), { code: "JSON_TOO_DEEP" });
  assert.doesNotThrow(() => parseJson("[".repeat(64) + "]".repeat(64), "x"));
});
