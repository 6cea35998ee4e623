"""The only room that knows Flask: the HTTP API, the pages, the server."""
