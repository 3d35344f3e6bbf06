"""How it is decided: state, budget, reward, environment, DDPG, opponents, the episode loop."""
