{% include cookiecutter.phase ~ "/plugin.py" -%}
