"""The adapter of azure-functions itself."""

import azure.functions as func
from web import app as web

app = func.AsgiFunctionApp(web, http_auth_level=func.AuthLevel.ANONYMOUS, function_name="reply")
