import { kindOf } from './lib/clients.js';
import { suiteFor } from './lib/suite.js';

suiteFor(kindOf('2.2.0'));
