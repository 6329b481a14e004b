"""User data: what is understood, and that everything else is refused by name and never crashes the parser."""

from __future__ import annotations

import base64
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicloud.base.errors import CloudError, InvalidParameterValue, InvalidRequest, UnsupportedOperation
from minicloud.host.user_data import CloudConfig, Plain, Script, WriteFile, boot_form, parse


def config(body: str) -> CloudConfig:
    data = parse(f"#cloud-config\n{body}")
    assert isinstance(data, CloudConfig)
    return data


@pytest.mark.parametrize("first", ["#!/bin/sh", "#!/usr/bin/env python3", "#! /bin/bash -e"])
def test_any_interpreter_is_a_script(first: str) -> None:
    assert parse(f"{first}\necho\n") == Script(f"{first}\necho\n")


def test_a_script_from_windows_gets_plain_line_ends() -> None:
    assert parse("#!/bin/sh\r\necho a\r\n") == Script("#!/bin/sh\necho a\n")


@pytest.mark.parametrize("text", ["", "hello", '{"a": 1}', "# a comment\n", " #!/bin/sh\n", "#cloud-configuration\n"])
def test_anything_else_is_left_to_the_metadata_service(text: str) -> None:
    assert parse(text) == Plain()


def test_write_files_in_every_form() -> None:
    data = config(
        """
write_files:
  - path: /etc/motd
    content: "hello\\n"
  - {path: /srv/bin, content: AAEC, encoding: b64, permissions: '0755', owner: root:root}
  - {path: /srv/log, content: more, append: true, permissions: 0600, owner: root, encoding: text/plain}
  - path: /srv/empty
  - path: /srv/raw
    content: !!binary AAEC
  - {path: /srv/lines, encoding: base64, content: "aGVs\\nbG8="}
"""
    )
    assert data.write_files == (
        WriteFile("/etc/motd", b"hello\n"),
        WriteFile("/srv/bin", b"\0\1\2", 0o755),
        WriteFile("/srv/log", b"more", 0o600, True),
        WriteFile("/srv/empty", b""),
        WriteFile("/srv/raw", b"\0\1\2"),
        WriteFile("/srv/lines", b"hello"),
    )


def test_runcmd_lines_and_words_become_one_script() -> None:
    data = config("runcmd:\n  - echo $HOME | wc\n  - [echo, 'a b', $HOME, 1]\n")
    assert data.script == "#!/bin/sh\necho $HOME | wc\necho 'a b' '$HOME' 1\n"


def test_hostname_and_emptiness() -> None:
    assert config("hostname: web-1.example") == CloudConfig(hostname="web-1.example")
    assert config("") == config("{}") == config("runcmd:\nwrite_files: []\n") == CloudConfig()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("packages: [nginx]", "packages cannot be installed"),
        ("users: []", "'users' is not supported"),
        ("bootcmd: []", "'bootcmd' is not supported"),
        ("1: 2", "'int' is not supported"),
        ("runcmd: [*a]", "aliases"),
        ("write_files: [{path: /a, defer: true}]", "'defer' is not supported"),
        ("write_files: [{path: /a, owner: 'www:www'}]", "owner must be root"),
        ("write_files: [{path: /a, encoding: gz}]", "encoding must be one of"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(body: str, words: str) -> None:
    with pytest.raises(UnsupportedOperation) as caught:
        config(body)
    assert words in caught.value.message and caught.value.field == "user_data"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("- a list", "must be a mapping"),
        ("runcmd: echo", "runcmd must be a list"),
        ("runcmd: [{a: b}]", "runcmd[0]"),
        ("runcmd: [echo, [[]]]", "runcmd[1]"),
        ("runcmd: [[]]", "runcmd[0]"),
        ("write_files: [a]", "write_files[0] must be a mapping"),
        ("write_files: [{content: a}]", "write_files[0].path"),
        ("write_files: [{path: relative}]", "absolute"),
        ("write_files: [{path: /a/../b}]", "without '..'"),
        ("write_files: [{path: /a/}]", "path of a file"),
        ("write_files: [{path: /a, content: 5}]", "put it in quotes"),
        ("write_files: [{path: /a, content: '%%', encoding: b64}]", "not base64"),
        ("write_files: [{path: /a, permissions: rwx}]", "octal"),
        ("write_files: [{path: /a, permissions: '99999'}]", "octal"),
        ("write_files: [{path: /a, permissions: true}]", "octal"),
        ("write_files: [{path: /a, append: 'yes'}]", "append"),
        ("hostname: -bad", "hostname must be"),
        ("hostname: [a]", "hostname must be"),
        ("a: b: c", "not valid YAML in line 2"),
        ("a: 2021-13-45", "not valid YAML"),
        ("\t", "not valid YAML"),
        ("runcmd: " + "[" * 16_000, "nest"),
        ("- " * 8_000, "nest"),
    ],
)
def test_what_is_wrong_is_said(body: str, words: str) -> None:
    with pytest.raises(InvalidParameterValue) as caught:
        config(body)
    assert words in caught.value.message and caught.value.field == "user_data"


@pytest.mark.parametrize(
    "first", ["Content-Type: multipart/mixed", "#include\nhttp://a", "## template: jinja", "#part-handler"]
)
def test_other_formats_of_cloud_init_are_refused(first: str) -> None:
    with pytest.raises(UnsupportedOperation):
        parse(first)


@pytest.mark.parametrize("text", ["#!\n", "#!  \n", "a\0b", "é" * 8193])
def test_text_that_cannot_be_user_data(text: str) -> None:
    with pytest.raises(InvalidParameterValue):
        parse(text)


def test_a_bomb_of_merges_costs_nothing() -> None:
    lines = ["a0: &a0 {x: 1}"] + [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 12)]
    started = time.perf_counter()
    with pytest.raises(UnsupportedOperation):
        config("\n".join(lines))
    assert time.perf_counter() - started < 10


def test_the_boot_form_is_json_and_names_reasons() -> None:
    assert boot_form("") is None
    assert boot_form("#!/bin/sh\n") == {"kind": "script", "text": "#!/bin/sh\n"}
    assert boot_form("text") == {"kind": "plain"}
    refused = boot_form("#cloud-config\npackages: [a]")
    assert refused is not None and refused["kind"] == "refused" and "packages" in refused["reason"]
    whole = boot_form("#cloud-config\nhostname: h\nwrite_files: [{path: /a, content: b}]\nruncmd: [ls]")
    assert json.loads(json.dumps(whole)) == {
        "kind": "cloud-config",
        "hostname": "h",
        "write_files": [{"path": "/a", "content": base64.b64encode(b"b").decode(), "mode": 0o644, "append": False}],
        "script": "#!/bin/sh\nls\n",
    }


YAMLISH = st.text(alphabet="abc:-[]{}&*!|>'\"#%@,? \n\t0123456789.~<", max_size=200)


@settings(max_examples=300, deadline=None)
@given(st.one_of(YAMLISH, st.text(max_size=200)))
def test_no_text_crashes_the_parser(body: str) -> None:
    for text in (body, f"#cloud-config\n{body}", f"#cloud-config\nruncmd:\n - {body}", f"#!{body}"):
        try:
            parse(text)
        except CloudError as error:
            assert isinstance(error, InvalidRequest) and error.field == "user_data"
