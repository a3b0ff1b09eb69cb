"""The page: a Gradio front end that talks to the backend through HTTP only."""
