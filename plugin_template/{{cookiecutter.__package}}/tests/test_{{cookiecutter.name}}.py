{% include cookiecutter.phase ~ "/tests.py" -%}
