"""Warnings about policies that are valid, but probably not what their author wants: `checks.lint` has all."""
