"""Dashboards as code."""

from deploy.grafana.host import HOST
from deploy.grafana.model import MODEL
from deploy.grafana.overview import OVERVIEW

DASHBOARDS = (OVERVIEW, MODEL, HOST)
