"""The subset of Go's templates. `tests/kubernetes/test_helm.py` compares the chart with the real Helm."""

from __future__ import annotations

import pytest

from outrigger.installation.template import Renderer, TemplateError

DATA = {
    "name": "a",
    "off": False,
    "empty": "",
    "list": ["x", "y"],
    "map": {"b": 1, "a": {"c": "deep"}},
    "text": 'with "quotes"',
}


def render(text: str, **templates: str) -> str:
    return Renderer({"main.yaml": text, **templates}).render("main.yaml", DATA)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("plain", "plain"),
        ("{{ .name }}-{{ .map.a.c }}", "a-deep"),
        ("{{ .missing }}{{ .map.missing }}", ""),
        ("{{ .off }} {{ .map.b }}", "false 1"),
        ("a  {{- .name }}  b", "aa  b"),
        ("a  {{ .name -}}  b", "a  ab"),
        ("a\n{{- /* a comment with .name and | */ -}}\nb", "ab"),
        ("{{ if .off }}1{{ else if .name }}2{{ else }}3{{ end }}", "2"),
        ("{{ if .off }}1{{ else if .empty }}2{{ else }}3{{ end }}", "3"),
        ("{{ if .off }}1{{ else if .empty }}2{{ else if .list }}4{{ end }}.", "4."),
        ("{{ with .map.a }}{{ .c }}{{ $.name }}{{ else }}none{{ end }}", "deepa"),
        ("{{ with .empty }}some{{ else }}none{{ end }}", "none"),
        ("{{ range .list }}[{{ . }}]{{ end }}", "[x][y]"),
        ("{{ range .empty }}[{{ . }}]{{ else }}none{{ end }}", "none"),
        ('{{ define "a" }}<{{ . }}>{{ end }}{{ include "a" .name }}', "<a>"),
        ("{{ .text | quote }}", '"with \\"quotes\\""'),
        ('{{ .empty | default "b" | quote }}', '"b"'),
        ('{{ printf "%s:%d" .name 3 }}', "a:3"),
        ('{{ if and .name (not (eq .name "b")) }}yes{{ end }}', "yes"),
        ('{{ or .off .empty "last" }}', "last"),
        ("{{ if and .missing .missing.field }}yes{{ else }}no{{ end }}", "no"),
        ("{{ toYaml .map }}", "a:\n  c: deep\nb: 1"),
        ("l: {{- toYaml .list | nindent 2 }}", "l:\n  - x\n  - y"),
        ("{{ toJson .map }}", '{"a":{"c":"deep"},"b":1}'),
    ],
)
def test_it_is_rendered_as_by_helm(text: str, result: str) -> None:
    assert render(text) == result


def test_templates_include_definitions_of_other_files() -> None:
    assert render('{{ include "b" . }}', **{"_b.tpl": '{{ define "b" }}b{{ end }}'}) == "b"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\n{{ .name", "main.yaml:2: `{{` has no `}}`"),
        ("{{ if .name }}", "main.yaml:1: `if` has no `end`"),
        ("a {{ end }}", "main.yaml:1: {{ end }} without a block"),
        ("\n\n{{ lookup .name }}", "main.yaml:3: the function 'lookup' is not supported"),
        ("{{ $x := 1 }}", "main.yaml:1: '$x := 1' is not supported"),
        ("{{ .name | .off }}", "main.yaml:1: a value is piped to something that is not a function"),
        ("{{ (.name }}", "main.yaml:1: a `)` is missing"),
        ("{{ }}", "main.yaml:1: the action is empty"),
        ("{{ .map }}", "main.yaml:1: a dict cannot be printed: use toYaml"),
        ("{{ .name.first }}", "main.yaml:1: .name.first: there is no mapping with the key 'first'"),
        ('{{ include "nothing" . }}', "main.yaml:1: no template defines 'nothing'"),
        ('{{ define "a" }}{{ include "a" . }}{{ end }}{{ include "a" . }}', "a:1: 'a' includes itself"),
        ('{{ printf "%s" }}', "main.yaml:1: printf: "),
    ],
)
def test_a_fault_is_named_with_its_template_and_line(text: str, reason: str) -> None:
    with pytest.raises(TemplateError) as fault:
        render(text)
    assert str(fault.value).startswith(reason)
