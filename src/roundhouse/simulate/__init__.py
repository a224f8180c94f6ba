"""A box in virtual time around the real planner, to replay requests and compare policies (issue 4: simulator). Pure."""
