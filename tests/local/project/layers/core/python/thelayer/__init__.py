"""Stands in for a package that only the layer brings."""

NAME = "from the layer"
