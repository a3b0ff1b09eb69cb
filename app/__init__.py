"""The page: a Gradio front end that talks to the backend through HTTP only."""

import os

# Read by Gradio when it is imported, which every module below does: no page view is ever reported anywhere.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
