"""The structural OpenAPI v3 schema of a model, as a CustomResourceDefinition needs it.

pydantic makes JSON Schema, of which Kubernetes accepts a part: no references, no ``null`` together with a
type, no ``additionalProperties: false`` (it prunes unknown fields, or rejects them with
`fieldValidation=Strict`).
https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema
"""

from __future__ import annotations

import re
from typing import Any

from pydantic.alias_generators import to_camel

from controlplane.resources.base import Message

Schema = dict[str, Any]

# Without it, the API server would drop the field, and its author would not see that it is not supported.
NOT_SUPPORTED_YET: Schema = {
    "description": "Not supported yet: a resource with this field is not applied; see its status.",
    "x-kubernetes-preserve-unknown-fields": True,
}

_KEPT = (
    "description",
    "type",
    "format",
    "enum",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "pattern",
    "required",
    "oneOf",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
)
_TRANSLATED = ("properties", "items", "additionalProperties")
# Titles repeat names. The API server would write defaults into the resource. Keys of maps are validated when
# the resource is read: structural schemas cannot describe them.
_LEFT_OUT = ("title", "default", "propertyNames", "$defs")


def structural_schema(model: type[Message]) -> Schema:
    """The schema of documents of ``model``. Rules beyond types and shapes are not in it: validators check
    them."""
    schema = model.model_json_schema()
    return _structural(schema, schema.get("$defs", {}))


def _structural(node: Schema, definitions: Schema) -> Schema:
    node = _resolved(node, definitions)
    unknown = node.keys() - {*_KEPT, *_TRANSLATED, *_LEFT_OUT}
    assert not unknown, f"no structural schema has {unknown}"
    if node.get("type") == "null":  # pydantic's schema of a `NotSupportedYet`
        return NOT_SUPPORTED_YET
    schema = {keyword: node[keyword] for keyword in _KEPT if keyword in node}
    if "description" in schema:
        schema["description"] = _plain_words(schema["description"])
    if "properties" in node:
        schema["properties"] = {
            name: _structural(child, definitions) for name, child in node["properties"].items()
        }
    for keyword in ("items", "additionalProperties"):
        if node.get(keyword):
            schema[keyword] = _structural(node[keyword], definitions)
    return schema


def _resolved(node: Schema, definitions: Schema) -> Schema:
    """The node with references replaced by their targets, and without the ``null`` of an optional field."""
    while reference := node.get("$ref") or node.get("anyOf"):
        siblings = {keyword: value for keyword, value in node.items() if keyword not in ("$ref", "anyOf")}
        if isinstance(reference, str):
            target = definitions[reference.rpartition("/")[2]]
        else:
            (target,) = (choice for choice in reference if choice != {"type": "null"})
        node = {**target, **siblings}
    return node


def _plain_words(docstring: str) -> str:
    """A docstring as a description for readers of YAML: one paragraph, with the names that documents use."""
    text = re.sub(r"``([a-z]\w*_\w+)``", lambda name: f"``{to_camel(name[1])}``", docstring)
    return " ".join(text.replace("``", "`").split())
