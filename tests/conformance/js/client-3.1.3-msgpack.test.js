import { kindOf } from './lib/clients.js';
import { suiteFor } from './lib/suite.js';

suiteFor(kindOf('3.1.3', { parser: 'msgpack' }));
