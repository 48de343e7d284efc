"""The whole loop under load: retrain, gate, shadow, canary, promote, break, roll back, and compare every answer."""
