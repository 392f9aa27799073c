"""The subset of Go's templates, and of Helm's functions, that the chart uses.

Actions: `if`/`else if`/`else`, `with`/`else`, `range`/`else`, `define`, output and comments; `{{-` and `-}}`
trim whitespace. Expressions: strings, integers, `true`, `false`, `.a.b`, `$.a.b`, parentheses, pipelines, and
the functions in `functions`. Everything else is an error. A test compares the results with those of Helm.

https://pkg.go.dev/text/template and https://helm.sh/docs/chart_template_guide/function_list/
"""

from outrigger.installation.template.errors import TemplateError
from outrigger.installation.template.renderer import Renderer

__all__ = ["Renderer", "TemplateError"]
