"""What the SuperLink runs: fedlight's own command line, with Flower to carry the messages."""

from fedlight.cli import built, run
from fedlight.deploy.server import server_app

app = server_app(run, built)
