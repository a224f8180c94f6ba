import json

from ruamel.yaml import YAML

from roundhouse.config.schema import json_schema
from tests.config.test_models import EXAMPLE


def resolve(schema, node):
    return schema["$defs"][node["$ref"].rsplit("/", 1)[1]] if "$ref" in node else node


def test_c1_schema_is_json_and_names_every_key_of_the_example_and_no_other():
    schema = json.loads(json.dumps(json_schema()))
    example = YAML(typ="safe", pure=True).load(EXAMPLE.read_text())
    assert set(schema["properties"]) == {*example, "captures"}  # which came after the contract
    model = schema["$defs"]["ModelConfig"]
    used = {key for body in example["models"].values() for key in body}
    assert used <= set(model["properties"])
    assert "id" not in model["properties"]
    assert "id" not in model.get("required", [])


def test_c1_schema_knows_units_words_and_unknown_keys():
    schema = json_schema()
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["ModelConfig"]["additionalProperties"] is False
    assert schema["$defs"]["ModelConfig"]["properties"]["ttl"]["anyOf"][0] == {"enum": ["auto", "never"]}
    assert schema["$defs"]["Limits"]["properties"]["body"]["type"] == "string"
    assert schema["properties"]["performance"]["enum"] == ["auto", "content", "usage", "off"]


def test_c1_schema_gives_defaults_as_a_file_has_them():
    sections = json_schema()["$defs"]
    assert sections["Limits"]["properties"]["body"]["default"] == "64MiB"
    assert sections["LoadTimeout"]["properties"]["total"]["default"] == "30m"
    assert sections["Queue"]["properties"]["limit"]["default"] == 512
