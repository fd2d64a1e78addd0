"""How Sphinx builds the documentation: `python tools/build_docs.py` does it as CI does."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE / "_ext"), str(ROOT), str(ROOT / "backends")]

import portnn  # noqa: E402  # of this checkout, installed or not

# Cells run in processes of their own, which are to import the same checkout, and to draw without a display. Pages are
# built side by side, so each keeps to one core; then its numbers do not depend on the machine's either.
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "backends"), os.environ.get("PYTHONPATH", "")])
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # cells with "!python"
os.environ |= {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
}
# Nobody's own settings of IPython play a part. Kernels listen on this machine only, so their warning is left out.
os.environ |= {"PYDEVD_DISABLE_FILE_VALIDATION": "1", "IPYTHONDIR": str(HERE / "_build" / "ipython")}
profile = HERE / "_build" / "ipython" / "profile_default"
profile.mkdir(parents=True, exist_ok=True)
(profile / "ipython_kernel_config.py").write_text("c.IPKernelApp.log_level = 40\n")

project = "portnn"
copyright = "The portnn developers"
version = release = portnn.__version__
language = "en"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "kernel_ports",
    "local_mathjax",
    "plain_docstrings",
    "repository_links",
]
exclude_patterns = ["_build", "_ext", "_static", "**/.ipynb_checkpoints"]
nitpicky = True
nitpick_ignore = [("py:class", "Optimizer"), ("py:class", "dict")]

# -- text --------------------------------------------------------------------------------------------------------------

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 4  # the anchors that GitHub gives to headings
myst_links_external_new_tab = False
suppress_warnings = ["myst.header"]  # a page may begin its second part with a heading of the third level

# -- cells: run when the documentation is built ------------------------------------------------------------------------

nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_excludepatterns = ["notebooks/gpu.ipynb"]  # tests run it, on other backends
nb_execution_timeout = 120
nb_execution_show_tb = True
nb_merge_streams = True
nb_number_source_lines = False
nb_render_image_options = {"align": "center"}

# -- the reference, from docstrings ------------------------------------------------------------------------------------

autodoc_typehints = "none"  # docstrings say what is expected, with shapes
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autosummary_generate = False
add_module_names = False
toc_object_entries_show_parents = "hide"

# -- where the sources are: links out of this folder lead there --------------------------------------------------------

repository = os.environ.get("GITHUB_REPOSITORY", "portnn/portnn")  # on GitHub, that of the workflow

# -- pages -------------------------------------------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = "portnn"
html_static_path = ["_static"]
html_css_files = ["portnn.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "github_url": f"https://github.com/{repository}",
    "show_prev_next": True,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "header_links_before_dropdown": 7,
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "secondary_sidebar_items": ["page-toc"],
}
html_sidebars = {"index": [], "search": []}
copybutton_exclude = ".linenos, .gp, .go"
copybutton_prompt_text = ">>> "
