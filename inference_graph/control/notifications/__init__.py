"""Messages to people: alerts and results, to Slack-compatible and generic webhooks."""
