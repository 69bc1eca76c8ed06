"""CloudFormation's intrinsic functions."""

from __future__ import annotations

from typing import Any

import pytest

from local.intrinsics import Resolver, Unresolved

TEMPLATE: dict[str, Any] = {
    "Parameters": {"Stage": {"Default": "dev"}, "Size": {"Default": 5}, "Given": {}},
    "Conditions": {
        "IsDev": {"Fn::Equals": [{"Ref": "Stage"}, "dev"]},
        "IsProd": {"Fn::Not": [{"Condition": "IsDev"}]},
        "Both": {"Fn::And": [{"Condition": "IsDev"}, {"Condition": "IsProd"}]},
        "Either": {"Fn::Or": [{"Condition": "IsDev"}, {"Condition": "IsProd"}]},
    },
    "Mappings": {"Sizes": {"dev": {"memory": 128}}},
    "Resources": {"Table": {}},
}


def attribute(resource: str, name: str) -> str | None:
    return {"Ref": "table-1", "Arn": "arn:table-1"}.get(name)


RESOLVER = Resolver(TEMPLATE, {"Given": "value", "AWS::Region": "us-east-1"}, attribute)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"Ref": "Stage"}, "dev"),
        ({"Ref": "Given"}, "value"),
        ({"Ref": "Table"}, "table-1"),
        ({"Fn::GetAtt": ["Table", "Arn"]}, "arn:table-1"),
        ({"Fn::GetAtt": "Table.Arn"}, "arn:table-1"),
        (
            {"Fn::Sub": "${Table}/${Table.Arn}/${AWS::Region}/${Size}/${!Kept}"},
            "table-1/arn:table-1/us-east-1/5/${Kept}",
        ),
        ({"Fn::Sub": ["${x}-${Stage}", {"x": {"Ref": "Given"}}]}, "value-dev"),
        ({"Fn::If": ["IsDev", {"Ref": "Given"}, {"Ref": "Nothing"}]}, "value"),
        ({"Fn::If": ["IsProd", 1, 2]}, 2),
        ({"a": {"Fn::If": ["IsProd", 1, {"Ref": "AWS::NoValue"}]}, "b": 1}, {"b": 1}),
        ([{"Ref": "AWS::NoValue"}, "x"], ["x"]),
        ({"Fn::Join": ["-", ["a", {"Ref": "Stage"}]]}, "a-dev"),
        ({"Fn::Select": [1, {"Fn::Split": [",", "a,b,c"]}]}, "b"),
        ({"Fn::FindInMap": ["Sizes", {"Ref": "Stage"}, "memory"]}, 128),
    ],
)
def test_resolved(value: object, expected: object) -> None:
    assert RESOLVER.resolve(value) == expected


def test_conditions() -> None:
    assert [RESOLVER.condition(name) for name in ("IsDev", "IsProd", "Both", "Either")] == [True, False, False, True]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"Ref": "Nothing"}, "Ref Nothing"),
        ({"Fn::GetAtt": ["Nothing", "Arn"]}, "names no resource"),
        ({"Fn::GetAtt": ["Table", "Color"]}, "no such attribute"),
        ({"Fn::Sub": "${Nothing}"}, "Ref Nothing"),
        ({"Fn::If": ["Nothing", 1, 2]}, "Condition Nothing"),
        ({"Fn::FindInMap": ["Sizes", "prod", "memory"]}, "Sizes.prod.memory"),
        ({"Fn::ImportValue": "x"}, "Fn::ImportValue"),
    ],
)
def test_unresolved(value: object, message: str) -> None:
    with pytest.raises(Unresolved, match=message):
        RESOLVER.resolve(value)


def test_a_text_is_what_an_environment_variable_gets() -> None:
    assert [RESOLVER.text(value) for value in (5, "x", True, {"Ref": "Size"})] == ["5", "x", "true", "5"]
    with pytest.raises(Unresolved, match="neither a text nor"):
        RESOLVER.text(["x"])
