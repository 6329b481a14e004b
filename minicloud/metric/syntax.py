"""A small lexer, shared by the two languages: metric math and the rules of composite alarms."""

from __future__ import annotations

import re
from typing import NamedTuple

from minicloud.metric import errors, limits


class Token(NamedTuple):
    """`kind`: number, name, text (quoted, without its quotes), mark, or end. `at`: where it begins, from 0."""

    kind: str
    text: str
    at: int


class Tokens:
    """The tokens of an expression, one at a time. Raises ValidationError with the position."""

    def __init__(self, source: str, pattern: re.Pattern[str], field: str) -> None:
        self.field = field
        self.depth = 0
        self._tokens = _split(source, pattern, field)
        self._next = 0

    @property
    def now(self) -> Token:
        return self._tokens[self._next]

    def take(self) -> Token:
        token = self.now
        self._next += token.kind != "end"
        return token

    def skip(self, *texts: str) -> Token | None:
        """The next token, taken, where it is one of these marks or names."""
        token = self.now
        return self.take() if token.kind in ("mark", "name") and token.text in texts else None

    def expect(self, text: str) -> Token:
        token = self.skip(text)
        if token is None:
            raise self.error(f"expected '{text}'")
        return token

    def error(self, text: str, at: int | None = None) -> Exception:
        token = self.now
        found = "the end" if token.kind == "end" else f"'{token.text[:32]}'"
        shown = text if at is not None else f"{text}, found {found}"
        return errors.bad_expression(shown, token.at if at is None else at, self.field)

    def deeper(self) -> None:
        """One level of nesting more; bounded, because the parser is recursive."""
        self.depth += 1
        if self.depth > limits.EXPRESSION_DEPTH_MAX:
            raise self.error(f"nested more than {limits.EXPRESSION_DEPTH_MAX} levels deep", self.now.at)

    def higher(self) -> None:
        self.depth -= 1


def _split(source: str, pattern: re.Pattern[str], field: str) -> list[Token]:
    tokens = []
    at = 0
    while at < len(source):
        match = pattern.match(source, at)
        if match is None or match.end() == at:
            raise errors.bad_expression(f"unexpected character {source[at]!r}", at, field)
        kind = match.lastgroup
        if kind is not None:
            tokens.append(Token(kind, match[kind], match.start()))
        at = match.end()
    return [*tokens, Token("end", "", len(source))]
