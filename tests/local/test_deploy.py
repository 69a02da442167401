"""When the template is built anew and when not."""

from pathlib import Path

from nightcrew_cli.local.stack import _digest


def test_a_build_is_repeated_when_its_sources_or_parameters_change(tmp_path: Path) -> None:
    source = tmp_path / "functions" / "launcher" / "app.py"
    source.parent.mkdir(parents=True)
    source.write_text("one")
    (tmp_path / "template.yaml").write_text("Resources: {}")
    first = _digest(tmp_path, "template.yaml", ["Runtime=python3.11"])
    (source.parent / "__pycache__").mkdir()
    (source.parent / "__pycache__" / "app.pyc").write_text("compiled")

    same = _digest(tmp_path, "template.yaml", ["Runtime=python3.11"])

    assert same == first
    assert _digest(tmp_path, "template.yaml", ["Runtime=python3.12"]) != first
    source.write_text("two")
    assert _digest(tmp_path, "template.yaml", ["Runtime=python3.11"]) != first
