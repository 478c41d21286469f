"""What a SuperNode runs for every message: it passes the message on to the site's own process."""

from fedlight.deploy.relay import client_app

app = client_app()
