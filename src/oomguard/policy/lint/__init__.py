"""Warnings about policies that are valid, but probably not what their author wants: `load` asks for all."""
