"""The policy language and that of case files as JSON Schemas, for editors and pipelines."""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from oomguard.policy.cases.case_model import CaseFile
from oomguard.policy.model import Document

SCHEMA_ID = "urn:oomguard:policy"
CASES_SCHEMA_ID = "urn:oomguard:cases"


class _Generator(GenerateJsonSchema):
    """Pydantic's generator, for models where None only means that a key is missing."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if schema.get("default") is None:
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)

    def get_title_from_name(self, name: str) -> str:
        return name


def cases_schema() -> dict[str, Any]:
    """Return the schema of a case file (draft 2020-12)."""
    schema = CaseFile.model_json_schema(schema_generator=_Generator)
    return _titled(schema, CASES_SCHEMA_ID, "oomguard cases")


def json_schema() -> dict[str, Any]:
    """Return the schema of a policy file (draft 2020-12)."""
    schema = Document.model_json_schema(schema_generator=_Generator)
    for key in ("vm", "kernel", "rules"):  # all its lines may be commented out
        section = schema["properties"][key]
        filled = {name: section.pop(name) for name in ("$ref", "type", "items") if name in section}
        section["anyOf"] = [filled, {"type": "null"}]
    schema["type"] = ["object", "null"]  # as shipped, the main file has nothing but comments
    return _titled(schema, SCHEMA_ID, "oomguard policy")


def _titled(schema: dict[str, Any], name: str, title: str) -> dict[str, Any]:
    return {"$schema": GenerateJsonSchema.schema_dialect, "$id": name, **schema, "title": title}
