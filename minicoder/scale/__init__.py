"""What a cluster needs: a planner, and the hand-overs to datatrove, torchtitan, trl."""
