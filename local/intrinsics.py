"""CloudFormation's intrinsic functions, as far as a local stack needs them, with plain errors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

_PLACEHOLDER = re.compile(r"\$\{([^}]+)\}")

NO_VALUE = object()
"""What `AWS::NoValue` resolves to: the entry that holds it is left out."""


class Unresolved(Exception):
    """A reference that names nothing; the text says which."""


class Resolver:
    """Resolves values of a translated template.

    `attribute(resource, name)` gives a resource's Ref (name "Ref") or attribute, or None where it has none.
    """

    def __init__(
        self,
        template: Mapping[str, Any],
        values: Mapping[str, str],
        attribute: Callable[[str, str], str | None],
    ) -> None:
        self._conditions: Mapping[str, Any] = template.get("Conditions", {})
        self._mappings: Mapping[str, Any] = template.get("Mappings", {})
        self._resources: Mapping[str, Any] = template.get("Resources", {})
        self._attribute = attribute
        self._values = dict(values)
        for name, parameter in template.get("Parameters", {}).items():
            if name not in self._values and "Default" in parameter:
                self._values[name] = str(parameter["Default"])

    def resolve(self, value: Any) -> Any:
        """A value without intrinsic functions. Raises Unresolved."""
        if isinstance(value, list):
            return [item for item in map(self.resolve, value) if item is not NO_VALUE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            name, argument = next(iter(value.items()))
            if name == "Ref":
                return self._ref(argument)
            if name == "Condition" and isinstance(argument, str):
                return self.condition(argument)
            if name.startswith("Fn::"):
                return self._function(name, argument)
        resolved = {key: self.resolve(item) for key, item in value.items()}
        return {key: item for key, item in resolved.items() if item is not NO_VALUE}

    def text(self, value: Any) -> str:
        """A value that must be a text or a number, as text, the way an environment variable gets it."""
        resolved = self.resolve(value)
        if isinstance(resolved, bool):
            return "true" if resolved else "false"
        if not isinstance(resolved, (str, int)):
            raise Unresolved(f"{resolved!r} is neither a text nor a whole number")
        return str(resolved)

    def condition(self, name: str) -> bool:
        """Whether a condition of the template holds."""
        if name not in self._conditions:
            raise Unresolved(f"Condition {name} does not exist")
        return bool(self.resolve(self._conditions[name]))

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return NO_VALUE
        if name in self._values:
            return self._values[name]
        if name in self._resources:
            found = self._attribute(name, "Ref")
            if found is not None:
                return found
        raise Unresolved(f"Ref {name} names no parameter and no resource")

    def _get_attribute(self, argument: Any) -> str:
        resource, name = argument.split(".", 1) if isinstance(argument, str) else argument
        if resource not in self._resources:
            raise Unresolved(f"GetAtt {resource}.{name} names no resource")
        found = self._attribute(resource, name)
        if found is None:
            raise Unresolved(f"GetAtt {resource}.{name}: the local stack knows no such attribute")
        return found

    def _sub(self, argument: Any) -> str:
        text, extra = (argument, {}) if isinstance(argument, str) else argument

        def replace(match: re.Match[str]) -> str:
            name = match[1]
            if name.startswith("!"):
                return "${" + name[1:] + "}"
            if name in extra:
                return self.text(extra[name])
            if "." in name:
                return self._get_attribute(name)
            return self.text({"Ref": name})

        return _PLACEHOLDER.sub(replace, text)

    def _function(self, name: str, argument: Any) -> Any:
        match name:
            case "Fn::Sub":
                return self._sub(argument)
            case "Fn::GetAtt":
                return self._get_attribute(argument)
            case "Fn::If":
                chosen = argument[1] if self.condition(argument[0]) else argument[2]
                return self.resolve(chosen)
            case "Fn::Equals":
                return self.text(argument[0]) == self.text(argument[1])
            case "Fn::Not":
                return not self.resolve(argument[0])
            case "Fn::And":
                return all(self.resolve(item) for item in argument)
            case "Fn::Or":
                return any(self.resolve(item) for item in argument)
            case "Fn::Join":
                return argument[0].join(self.text(item) for item in self.resolve(argument[1]))
            case "Fn::Select":
                return self.resolve(argument[1])[int(self.text(argument[0]))]
            case "Fn::Split":
                return self.text(argument[1]).split(argument[0])
            case "Fn::FindInMap":
                table, row, column = (self.text(item) for item in argument)
                try:
                    return self._mappings[table][row][column]
                except KeyError:
                    raise Unresolved(f"FindInMap {table}.{row}.{column} does not exist") from None
            case _:
                raise Unresolved(f"{name} is not known to the local stack")
