"""Filter patterns of FilterLogEvents: which messages they match. Pure.

Source: CloudWatch Logs guide, "Filter pattern syntax for metric filters, subscription filters, filter log events, and
Live Tail".

    ERROR timeout              every term, in any order, case-sensitive
    "not found"                a phrase
    ?ERROR ?WARN               one of these at least
    -debug                     none of these; alone: every message without it
    %4[0-9]{2}%                a regular expression
    { $.level = "error" && ($.user.id > 5 || $.tags[0] = prod*) }     of messages that are JSON
    [ip, user, ..., status = 4*, size > 1000]                         of words, "..." and [...] being one

A term next to ?terms makes those count for nothing, as the guide says. Not here: comparisons of two fields.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from minicloud.logs import errors, limits

Match = Callable[[str], bool]
_WORDS = re.compile(r'\s*([-?]?)(?:"((?:[^"\\]|\\.)*)"|%((?:[^%\\]|\\.)*)%|(\S+))')
_TOKENS = re.compile(
    r"""\s*(?:(?P<op>&&|\|\||!=|<=|>=|[()=<>])|(?P<path>\$(?:\.[\w@-]+|\[\d+\]|\["[^"]*"\])*)"""
    r"""|(?P<text>"(?:[^"\\]|\\.)*")|%(?P<regex>(?:[^%\\]|\\.)*)%|(?P<word>[^\s()=<>!&|,\[\]{}]+))"""
)
_STEPS = re.compile(r'\.([\w@-]+)|\[(\d+)\]|\["([^"]*)"\]')
_FIELD = re.compile(r"\s*(\.\.\.|[\w-]+)?\s*(.*?)\s*\Z", re.DOTALL)
_CUT = re.compile(r'"((?:[^"\\]|\\.)*)"|\[([^\]]*)\]|(\S+)')
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?\Z")
_MISSING = object()
_REGEX_CHARS_MAX = 256
_REPETITIONS_MAX = 5  # ours: each may make a search slower by the length of the message


def needed(pattern: str) -> tuple[bytes, ...]:
    """What a message must hold to match, as far as it can be told: it saves looking at the others."""
    text = pattern.strip()
    if text.startswith(("{", "[")):
        return ()
    found = [match.groups() for match in _WORDS.finditer(text)]
    words = [_unescaped(phrase) if phrase is not None else word for sign, phrase, regex, word in found if not sign]
    return tuple(word.encode() for word in words if word)


def compiled(pattern: str) -> Match:
    """Raises InvalidParameterException where it is no pattern."""
    if len(pattern) > limits.PATTERN_CHARS_MAX:
        raise errors.bad_pattern(f"longer than {limits.PATTERN_CHARS_MAX} characters")
    text = pattern.strip()
    if not text:
        return lambda _message: True
    if text.startswith("{"):
        return _json(text)
    if text.startswith("["):
        return _columns(text)
    return _terms(text)


# --- terms


def _terms(text: str) -> Match:
    groups: dict[str, list[Match]] = {"": [], "?": [], "-": []}
    at = 0
    while at < len(text.rstrip()):
        match = _WORDS.match(text, at)
        assert match is not None
        sign, phrase, regex, word = match.groups()
        groups[sign].append(_contains(phrase, regex, word))
        at = match.end()
    must, may, never = groups[""], groups["?"], groups["-"]

    def matches(message: str) -> bool:
        if any(one(message) for one in never) or not all(one(message) for one in must):
            return False
        return bool(must) or not may or any(one(message) for one in may)

    return matches


def _contains(phrase: str | None, regex: str | None, word: str | None) -> Match:
    if regex is not None:
        search = _regex(regex).search
        return lambda message: search(message) is not None
    wanted = _unescaped(phrase) if phrase is not None else word or ""
    return lambda message: wanted in message


def _regex(text: str) -> re.Pattern[str]:
    """What the guide allows: no groups, no back references, nothing that takes exponential time."""
    if len(text) > _REGEX_CHARS_MAX or "(" in text.replace("\\(", ""):
        raise errors.bad_pattern(f"the regular expression '{text[:64]}' is too long, or has groups")
    if re.search(r"[*+?}][*+?{]", text) or len(re.findall(r"[*+{]", text)) > _REPETITIONS_MAX:
        raise errors.bad_pattern(f"the regular expression '{text[:64]}' repeats too much")
    try:
        return re.compile(text)
    except re.error as error:
        raise errors.bad_pattern(f"the regular expression '{text[:64]}': {error}") from None


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


# --- JSON


class _Token(NamedTuple):
    kind: str
    text: str


def _json(text: str) -> Match:
    if not text.endswith("}"):
        raise errors.bad_pattern("the closing } is missing")
    reader = _Reader(_tokens(text[1:-1]))
    holds = reader.either(0)
    if reader.peek() is not None:
        raise errors.bad_pattern(f"unexpected '{reader.take().text}'")

    def matches(message: str) -> bool:
        try:
            document = json.loads(message)
        except (ValueError, RecursionError):
            return False
        return isinstance(document, dict | list) and holds(document)

    return matches


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while text[at:].strip():
        match = _TOKENS.match(text, at)
        if match is None:
            raise errors.bad_pattern(f"unexpected '{text[at:].strip()[:16]}'")
        kind = match.lastgroup or ""
        yield _Token(kind, match[kind])
        at = match.end()


class _Reader:
    """Recursive descent; each method gives a test of a parsed document."""

    def __init__(self, tokens: Iterator[_Token]) -> None:
        self._tokens = list(tokens)
        self._at = 0

    def peek(self) -> _Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def take(self, *wanted: str) -> _Token:
        token = self.peek()
        if token is None or (wanted and token.kind not in wanted and token.text not in wanted):
            found = f"'{token.text}'" if token else "the end"
            raise errors.bad_pattern(f"unexpected {found}")
        self._at += 1
        return token

    def _next_is(self, text: str) -> bool:
        token = self.peek()
        return token is not None and token.kind in ("op", "word") and token.text.upper() == text

    def either(self, depth: int) -> Callable[[Any], bool]:
        parts = [self._both(depth)]
        while self._next_is("||"):
            self.take()
            parts.append(self._both(depth))
        return parts[0] if len(parts) == 1 else lambda document: any(one(document) for one in parts)

    def _both(self, depth: int) -> Callable[[Any], bool]:
        parts = [self._one(depth)]
        while self._next_is("&&"):
            self.take()
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else lambda document: all(one(document) for one in parts)

    def _one(self, depth: int) -> Callable[[Any], bool]:
        if depth > limits.PATTERN_DEPTH_MAX:
            raise errors.bad_pattern("it is nested too deep")
        if self._next_is("("):
            self.take()
            inner = self.either(depth + 1)
            self.take(")")
            return inner
        steps = _path(self.take("path").text)
        if self._next_is("IS"):
            self.take()
            wanted: Any = {"NULL": None, "TRUE": True, "FALSE": False}.get(self.take("word").text.upper(), _MISSING)
            if wanted is _MISSING:
                raise errors.bad_pattern("IS is followed by NULL, TRUE or FALSE")
            return lambda document: any(found is wanted for found in [_found(document, steps)])
        if self._next_is("NOT"):
            self.take()
            if self.take("word").text.upper() != "EXISTS":
                raise errors.bad_pattern("NOT is followed by EXISTS")
            return lambda document: _found(document, steps) is _MISSING
        test = _comparison(self.take("op").text, self.take("text", "regex", "word"))
        return lambda document: test(_found(document, steps))


def _path(text: str) -> list[str | int]:
    return [int(index) if index else name or quoted for name, index, quoted in _STEPS.findall(text)]


def _found(document: Any, steps: Sequence[str | int]) -> Any:
    for step in steps:
        if isinstance(step, int):
            if not isinstance(document, list) or step >= len(document):
                return _MISSING
        elif not isinstance(document, dict) or step not in document:
            return _MISSING
        document = document[step]
    return document


def _comparison(sign: str, value: _Token) -> Callable[[Any], bool]:
    """Of a field that may be missing, or of a word."""
    if sign in ("<", ">", "<=", ">="):
        if not _NUMBER.match(value.text):
            raise errors.bad_pattern(f"{sign} compares with a number, not '{value.text}'")
        limit = float(value.text)
        return lambda found: (number := _number(found)) is not None and _ORDER[sign](number, limit)
    if sign not in ("=", "!="):
        raise errors.bad_pattern(f"unexpected '{sign}'")
    equal = _equal(value)
    if sign == "=":
        return lambda found: found is not _MISSING and equal(found)
    return lambda found: found is not _MISSING and not equal(found)


_ORDER: dict[str, Callable[[float, float], bool]] = {
    "<": lambda one, two: one < two,
    ">": lambda one, two: one > two,
    "<=": lambda one, two: one <= two,
    ">=": lambda one, two: one >= two,
}


def _equal(value: _Token) -> Callable[[Any], bool]:
    if value.kind == "regex":
        search = _regex(value.text).search
        return lambda found: search(_text(found)) is not None
    if value.kind == "word" and _NUMBER.match(value.text):
        wanted = float(value.text)
        return lambda found: _number(found) == wanted
    text = _unescaped(value.text[1:-1]) if value.kind == "text" else value.text
    if "*" in text:
        whole = re.compile(".*".join(map(re.escape, text.split("*"))), re.DOTALL)
        return lambda found: whole.fullmatch(_text(found)) is not None
    return lambda found: _text(found) == text


def _number(found: Any) -> float | None:
    if isinstance(found, int | float) and not isinstance(found, bool):
        return float(found)
    return float(found) if isinstance(found, str) and _NUMBER.match(found) else None


def _text(found: Any) -> str:
    return found if isinstance(found, str) else json.dumps(found)


# --- words


def _columns(text: str) -> Match:
    if not text.endswith("]"):
        raise errors.bad_pattern("the closing ] is missing")
    fields = [_column(part) for part in _parts(text[1:-1])]
    many = [at for at, (name, _) in enumerate(fields) if name == "..."]
    if len(many) > 1 or not fields:
        raise errors.bad_pattern("there is one ... at most")
    before = fields[: many[0]] if many else fields
    behind = fields[many[0] + 1 :] if many else []

    def matches(message: str) -> bool:
        words = ["".join(parts) for parts in _CUT.findall(message)]
        if len(words) < len(before) + len(behind) or (not many and len(words) != len(fields)):
            return False
        front = zip(before, words, strict=False)
        back = zip(behind, words[len(words) - len(behind) :], strict=True)
        return all(test(word) for (_, test), word in (*front, *back))

    return matches


def _parts(text: str) -> Iterator[str]:
    """Cut at commas outside of quotes."""
    part, quoted = "", False
    for character in text:
        quoted ^= character == '"'
        if character == "," and not quoted:
            yield part
            part = ""
        else:
            part += character
    yield part


def _column(text: str) -> tuple[str, Callable[[Any], bool]]:
    match = _FIELD.match(text)
    assert match is not None
    name, condition = match[1] or "", match[2]
    if not condition:
        return name, lambda _word: True
    if not name or name == "...":
        raise errors.bad_pattern(f"'{text.strip()[:32]}' has no name")
    tests, alternatives = [], re.split(r"(&&|\|\|)", condition)
    joined = set(alternatives[1::2])
    if len(joined) > 1:
        raise errors.bad_pattern(f"'{text.strip()[:32]}' mixes && and ||")
    for part in alternatives[::2]:
        tokens = [one for one in _tokens(part) if not (one.kind == "word" and one.text == name)]
        if len(tokens) != 2 or tokens[0].kind != "op":
            raise errors.bad_pattern(f"'{part.strip()[:32]}' is no condition")
        tests.append(_comparison(tokens[0].text, tokens[1]))
    every = all if joined != {"||"} else any
    return name, lambda word: every(test(word) for test in tests)
