"""What else HAProxy can do with requests: variables, answers of our own, redirects, headers put together from parts.

Text that is put together from parts is a Format: each part is fixed text, in which nothing is special, or a Fetch, a
sample expression (HAProxy manual, section 7.3) of the form that checked.py has. So no value of a stranger's is ever
read as an expression. Raises InvalidParameterValue, like there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from minicloud.base.errors import InvalidParameterValue
from minicloud.proxy.checked import FETCH, HEADER, matching, quote, whole
from minicloud.proxy.config import ALWAYS, When

_VARIABLE = re.compile(r"^(?:txn|req|res)\.[a-z0-9_]+$")
_TYPE = re.compile(r"^[a-z]+/[a-z0-9.+-]+$")
_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
BODY_CHARS_MAX = 4_096


@dataclass(frozen=True, slots=True)
class Fetch:
    """A sample expression: what HAProxy knows of this request."""

    expression: str

    def render(self) -> str:
        return f"%[{matching(FETCH, self.expression, 'fetch')}]"


Format = tuple[str | Fetch, ...]


def formatted(parts: Format) -> str:
    """A quoted log-format string."""
    text = "".join(part.render() if isinstance(part, Fetch) else part.replace("%", "%%") for part in parts)
    return quote(text)


def quote_body(text: str) -> str:
    """Like `quote`, and line breaks and tabs are written as HAProxy's escapes."""
    if len(text) > BODY_CHARS_MAX:
        raise InvalidParameterValue(f"longer than {BODY_CHARS_MAX} characters")
    pieces = re.split(r"([\n\r\t])", text)
    return "".join(_ESCAPES[piece] if piece in _ESCAPES else quote(piece) for piece in pieces if piece) or quote("")


@dataclass(frozen=True, slots=True)
class SetVar:
    """Remember the value of a fetch. `text` instead: fixed text."""

    variable: str
    fetch: str = ""
    text: str = ""
    when: When = ALWAYS

    def render(self) -> str:
        name = matching(_VARIABLE, self.variable, "variable")
        if self.fetch:
            return f"http-request set-var({name}) {matching(FETCH, self.fetch, 'fetch')}{self.when.render()}"
        return f"http-request set-var({name}) str({matching(_WORD, self.text, 'text')}){self.when.render()}"


_WORD = re.compile(r"^[A-Za-z0-9_.-]+$")


@dataclass(frozen=True, slots=True)
class Allow:
    """No further rule of this section is looked at."""

    when: When

    def render(self) -> str:
        return f"http-request allow{self.when.render()}"


@dataclass(frozen=True, slots=True)
class Respond:
    """An answer of our own."""

    status: int
    when: When = ALWAYS
    content_type: str = ""
    text: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    def render(self) -> str:
        line = f"http-request return status {whole(self.status, 200, 599, 'status')}"
        if self.text:
            kind = matching(_TYPE, self.content_type, "content_type")
            line += f" content-type {quote(kind)} string {quote_body(self.text)}"
        for header, value in self.headers:
            line += f" hdr {matching(HEADER, header, 'header')} {quote(value.replace('%', '%%'))}"
        return line + self.when.render()


@dataclass(frozen=True, slots=True)
class Redirect:
    status: int
    location: Format
    when: When = ALWAYS

    def render(self) -> str:
        code = whole(self.status, 301, 308, "status")
        return f"http-request redirect location {formatted(self.location)} code {code}{self.when.render()}"


@dataclass(frozen=True, slots=True)
class Header:
    """Set (or `add`) a header of a request, or of an `answer`."""

    name: str
    value: Format
    when: When = ALWAYS
    add: bool = False
    answer: bool = False

    def render(self) -> str:
        head = f"http-{'response' if self.answer else 'request'} {'add' if self.add else 'set'}-header"
        return f"{head} {matching(HEADER, self.name, 'header')} {formatted(self.value)}{self.when.render()}"


@dataclass(frozen=True, slots=True)
class DropOddHeaders:
    """Headers of requests whose names have other characters than letters, digits and hyphens."""

    def render(self) -> str:
        return "http-request del-header [^-A-Za-z0-9] -m reg"


@dataclass(frozen=True, slots=True)
class DropAnswerHeader:
    name: str

    def render(self) -> str:
        return f"http-response del-header {matching(HEADER, self.name, 'header')}"


@dataclass(frozen=True, slots=True)
class TraceId:
    """X-Amzn-Trace-Id, where the request has none. Source: ALB guide, "Request tracing": Root=1-<time>-<96 bits>.

    The bits are the client's address and port, ours, and 32 by lot: a lot costs as much as a header.
    """

    when: When

    def render(self) -> str:
        value = "'Root=1-%{+X}Ts-%{+X}ci%{+X}cp%{+X}fp%[rand,hex,bytes(8)]'"
        return f"http-request set-header X-Amzn-Trace-Id {value}{self.when.render()}"


@dataclass(frozen=True, slots=True)
class UseNamed:
    """Go to the backend whose name a variable holds; a name that is none answers 503. `suffix`: what to add to it."""

    variable: str
    suffix: str = ""
    when: When = ALWAYS

    def render(self) -> str:
        suffix = f",concat({matching(_WORD, self.suffix, 'suffix')})" if self.suffix else ""
        return f"use_backend %[var({matching(_VARIABLE, self.variable, 'variable')}){suffix}]{self.when.render()}"
